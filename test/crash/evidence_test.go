package crash

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// evidence is what the engine and a container were doing when the container did not become what it should: the
// daemon's goroutines that are in our code, where the keeper's threads and the container's processes wait.
func (l *lab) evidence(d *details) string {
	var b strings.Builder
	if l.e.Ended() {
		b.WriteString("\nthe daemon is not there")
	} else if err := syscall.Kill(l.e.PID(), syscall.SIGUSR1); err == nil {
		time.Sleep(500 * time.Millisecond)
		for _, f := range glob(filepath.Join(l.e.ExecRoot, "goroutine-stacks-*")) {
			text, _ := os.ReadFile(f)
			for _, g := range strings.Split(string(text), "\n\n") {
				if strings.Contains(g, "gantry/internal") && !strings.Contains(g, "warm.(*Pool") {
					fmt.Fprintf(&b, "\n%s\n", g)
				}
			}
			_ = os.Remove(f)
		}
	}
	for name, pids := range l.crew() {
		for _, pid := range pids {
			fmt.Fprintf(&b, "\n%s %d:%s", name, pid, waits(pid))
		}
	}
	if d == nil || d.State.Pid == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "\nthe container's %d:%s", d.State.Pid, waits(d.State.Pid))
	for _, f := range glob("/sys/fs/cgroup/pids/*/" + d.ID + "/cgroup.procs") {
		text, _ := os.ReadFile(f)
		for _, p := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(p); err == nil {
				fmt.Fprintf(&b, "\nin its cgroup %d:%s", pid, waits(pid))
			}
		}
	}
	return b.String()
}

// said is what daemon and keeper wrote last.
func (l *lab) said() string {
	b, _ := os.ReadFile(filepath.Join(l.e.ExecRoot, "keeper", "keeper.log"))
	return fmt.Sprintf("the daemon said\n%s\nand the keeper\n%s", l.e.LogTail(2000), b[max(0, len(b)-2000):])
}

// waits tells where the threads of a process are.
func waits(pid int) string {
	var b strings.Builder
	for _, task := range glob(fmt.Sprintf("/proc/%d/task/*", pid)) {
		for _, f := range []string{"comm", "wchan", "syscall", "stack"} {
			text, _ := os.ReadFile(filepath.Join(task, f))
			fmt.Fprintf(&b, " %s", strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", " < "))
		}
		status, _ := os.ReadFile(filepath.Join(task, "status"))
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "State:") || strings.HasPrefix(line, "SigPnd") || strings.HasPrefix(line, "ShdPnd") {
				fmt.Fprintf(&b, " %s", strings.Join(strings.Fields(line), " "))
			}
		}
		b.WriteString(";")
	}
	return b.String()
}

func glob(pattern string) []string {
	found, _ := filepath.Glob(pattern)
	return found
}
