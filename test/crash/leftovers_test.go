package crash

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// leftovers is everything on the host that belongs to an engine's containers, one text each.
type leftovers map[string]bool

// own are files that come and go with the engine's processes.
var own = []string{"keeper/keeper.log", "keeper/keeper.log.1", "keeper/anchor.err", "gantry-net.sock", "keeper/anchor.pid"}

func (l *lab) look() (leftovers, error) {
	all := leftovers{}
	walk := func(label, root string, skip func(string) bool) error {
		return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				if os.IsNotExist(err) {
					return nil // it went away while we looked
				}
				return err
			}
			rel, _ := filepath.Rel(root, path)
			if skip != nil && skip(rel) {
				if d.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
			all[label+" "+rel] = true
			return nil
		})
	}
	if err := walk("exec root", l.e.ExecRoot, func(rel string) bool { return slices.Contains(own, rel) }); err != nil {
		return nil, err
	}
	// Below a container's or layer's own folder nothing is of interest.
	spare := map[string]int{} // what is made ahead of time comes and goes, and must not pile up
	if err := walk("data root", l.e.DataRoot, func(rel string) bool {
		if strings.HasPrefix(rel, "layers/spare/") {
			spare["layers"]++
			return true
		}
		if rel == "containers/.spare" {
			kept, _ := os.ReadDir(filepath.Join(l.e.DataRoot, rel))
			spare["folders"] = len(kept)
			return true
		}
		return strings.Count(rel, "/") > 3
	}); err != nil {
		return nil, err
	}
	tag := strings.TrimPrefix(filepath.Base(l.e.ExecRoot), "gt-")
	for _, pattern := range []string{"/sys/fs/cgroup/gantry-test-" + tag + "/*/cgroup.procs", "/sys/fs/cgroup/*/gantry-test-" + tag + "/*/cgroup.procs"} {
		found, _ := filepath.Glob(pattern)
		for _, f := range found {
			if strings.HasPrefix(filepath.Base(filepath.Dir(f)), "spare-") {
				spare[filepath.Dir(filepath.Dir(f))]++
				continue
			}
			all["cgroup "+filepath.Dir(f)] = true
		}
	}
	for what, n := range spare {
		if n > 16 {
			all[fmt.Sprintf("%d spare %s", n, what)] = true
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, l.e.ExecRoot) || strings.Contains(line, l.e.Dir) {
			all["mount "+strings.TrimSpace(line)] = true
		}
	}
	rules, err := exec.Command("nft", "list", "ruleset").Output()
	if err != nil {
		return nil, fmt.Errorf("listing packet rules: %w", err)
	}
	for line := range strings.Lines(string(rules)) {
		for part := range strings.SplitSeq(strings.TrimSpace(line), ", ") {
			all["packet rule "+part] = true
		}
	}
	links, err := net.Interfaces() // of this network namespace; /sys shows the host's
	if err != nil {
		return nil, err
	}
	all[fmt.Sprintf("network links: %d", len(links)-l.pooled())] = true
	for _, table := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile("/proc/self/net/" + table)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 3 && f[3] == "0A" {
				all["listening "+f[1]] = true
			}
		}
	}
	for name, pids := range l.crew() {
		all[fmt.Sprintf("process %s: %d", name, len(pids))] = true
		if name != "gantry-keeper" && name != "gantry-anchor" {
			continue
		}
		// A handle of its child or parent more or less is no leak.
		for _, pid := range pids {
			fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			if err == nil && l.fds[name] == 0 {
				l.fds[name] = len(fds) + 4
			}
			if err == nil && len(fds) > l.fds[name] {
				all[fmt.Sprintf("descriptors of %s: %d", name, len(fds))] = true
			}
		}
	}
	return all, nil
}

// pooled is how many network namespaces the daemon holds ready, each with a link: their number follows what was asked for.
func (l *lab) pooled() (n int) {
	for _, pid := range l.crew()["gantryd"] {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "net:[") {
				n++
			}
		}
		n-- // its own
	}
	return n
}

var longID = regexp.MustCompile(`([0-9a-f]{12})[0-9a-f]{52}`)

// brief shows a list so that it can be read.
func brief(list []string) string {
	slices.Sort(list)
	n := len(list)
	list = list[:min(n, 12)]
	return fmt.Sprintf("%d %s", n, longID.ReplaceAllString(fmt.Sprintf("%q", list), "$1"))
}

// clean waits until nothing is there beside what was there before.
func (l *lab) clean() error {
	deadline := time.Now().Add(8 * time.Second)
	for {
		if err := l.revive(); err != nil { // the strike may come late
			return err
		}
		now, err := l.look()
		if err != nil {
			return err
		}
		var more, less []string
		for k := range now {
			if !l.base[k] {
				more = append(more, k)
			}
		}
		for k := range l.base {
			if !now[k] {
				less = append(less, k)
			}
		}
		if len(more)+len(less) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			l.base = now // told once
			return fmt.Errorf("left behind: %s; missing: %s", brief(more), brief(less))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// sound has the engine check all that is on its disk.
func (l *lab) sound() error {
	c := &trial{lab: l}
	return insist("fsck", func() (bool, string, error) {
		st, b, err := c.do("POST", "/system/fsck", nil)
		if errors.Is(err, errDown) {
			return false, err.Error(), nil
		}
		if err != nil || st != http.StatusOK || !bytes.Contains(b, []byte(`"Sum"`)) {
			return false, fmt.Sprintf("%d %s", st, b), err
		}
		if bytes.Contains(b, []byte(`"Finding"`)) {
			return false, "", fmt.Errorf("fsck found %s", b)
		}
		return true, "", nil
	})
}
