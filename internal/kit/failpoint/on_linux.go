//go:build failpoints

package failpoint

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	dir = os.Getenv(EnvName)

	mu     sync.Mutex
	passed = map[string]int{} // by content of arm: how often its point was passed since
)

// Env is what a process with a reduced environment must be given.
func Env() []string {
	if dir == "" {
		return nil
	}
	return []string{EnvName + "=" + dir}
}

// Hit notes that the process has come to a point, and kills where that is armed.
func Hit(point string) {
	if dir == "" {
		return
	}
	mu.Lock()
	defer mu.Unlock() // the others stop here too while one strikes
	if hit := filepath.Join(dir, "hit", point); syscall.Access(hit, 0) != nil {
		_ = os.WriteFile(hit, nil, 0o600)
	}
	arm := filepath.Join(dir, "arm")
	b, err := os.ReadFile(arm)
	if err != nil {
		return
	}
	f := strings.Fields(string(b))
	if len(f) != 4 || f[0] != point {
		return
	}
	skip, _ := strconv.Atoi(f[1])
	if passed[string(b)]++; passed[string(b)] <= skip {
		return
	}
	if d, ok := strings.CutPrefix(f[2], "pause="); ok {
		if d, err := time.ParseDuration(d); err == nil {
			mu.Unlock()
			time.Sleep(d)
			mu.Lock()
		}
		return
	}
	striking := filepath.Join(dir, "striking")
	if os.Rename(arm, striking) != nil {
		return // another process was first
	}
	_ = os.Rename(filepath.Join(dir, "next"), arm)
	strike(strings.Split(f[2], ","), f[3], func(after string) {
		_ = os.WriteFile(striking, []byte(string(b)+after), 0o600)
		_ = os.Rename(striking, filepath.Join(dir, "struck"))
	})
}

// strike kills all victims as nearly at once as can be: found first, then stopped, then killed;
// the caller last. done is called before that, with " and PID" if the caller is a victim.
func strike(victims []string, marker string, done func(after string)) {
	self := os.Getpid()
	all := slices.DeleteFunc(find(victims, marker), func(pid int) bool { return pid == self })
	me := slices.Contains(victims, "self") || slices.Contains(victims, filepath.Base(os.Args[0]))
	for _, pid := range all {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	for _, pid := range all {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if !me {
		done("")
		return
	}
	done(" and " + strconv.Itoa(self))
	_ = syscall.Kill(self, syscall.SIGKILL)
	select {}
}

// find lists the processes whose executable is among victims and whose arguments name the marker.
func find(victims []string, marker string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || !bytes.Contains(b, []byte(marker)) {
			continue
		}
		name, _, _ := bytes.Cut(b, []byte{0})
		if slices.Contains(victims, filepath.Base(string(name))) {
			pids = append(pids, pid)
		}
	}
	return pids
}
