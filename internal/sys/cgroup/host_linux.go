package cgroup

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// Hierarchy is one mounted cgroup tree.
type Hierarchy struct {
	Names []string // controllers, or "name=systemd"; empty on v2
	Mount string
	Own   string // this process's cgroup below Mount
}

// Host is what the machine has.
type Host struct {
	V2          bool // v2 only
	Hierarchies []Hierarchy
}

// Discover reads /proc/self/mountinfo and /proc/self/cgroup, once.
var Discover = sync.OnceValues(discover)

func discover() (*Host, error) {
	h := &Host{V2: cgroups.IsCgroup2UnifiedMode()}
	own, err := ownCgroups()
	if err != nil {
		return nil, err
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	seen := map[string]bool{}
	s := bufio.NewScanner(f)
	for s.Scan() {
		left, right, ok := strings.Cut(s.Text(), " - ")
		fields, tail := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(tail) < 3 || seen[fields[2]] {
			continue
		}
		hier := Hierarchy{Mount: fields[4]}
		switch {
		case tail[0] == "cgroup2" && h.V2:
			hier.Own = own[""]
		case tail[0] == "cgroup" && !h.V2:
			for _, opt := range strings.Split(tail[2], ",") {
				if path, ok := own[opt]; ok {
					hier.Names, hier.Own = append(hier.Names, opt), path
				}
			}
			if len(hier.Names) == 0 {
				continue
			}
		default:
			continue
		}
		seen[fields[2]] = true
		h.Hierarchies = append(h.Hierarchies, hier)
	}
	if len(h.Hierarchies) == 0 {
		return nil, fmt.Errorf("no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup")
	}
	return h, s.Err()
}

func ownCgroups() (map[string]string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, name := range strings.Split(parts[1], ",") {
			out[name] = parts[2]
		}
	}
	return out, nil
}

// Make makes the directories for path in every hierarchy. A new parent gets
// what its children need: cpuset's values on v1, delegated controllers on v2.
// Dirs has every controller's directory; undo removes what was made.
func (h *Host) Make(path string) (dirs map[string]string, err error) {
	path = filepath.Clean("/" + path)
	dirs = map[string]string{}
	defer func() {
		if err != nil {
			for _, d := range dirs {
				_ = unix.Rmdir(d)
			}
		}
	}()
	for _, hier := range h.Hierarchies {
		dir := filepath.Join(hier.Mount, path)
		if err := h.makeDir(hier, path); err != nil {
			return dirs, err
		}
		if h.V2 {
			dirs[""] = dir
			continue
		}
		for _, n := range hier.Names {
			dirs[n] = dir
		}
	}
	return dirs, nil
}

func (h *Host) makeDir(hier Hierarchy, path string) error {
	dir := filepath.Join(hier.Mount, path)
	err := unix.Mkdir(dir, 0o755)
	if err == unix.ENOENT {
		if err := h.makeDir(hier, filepath.Dir(path)); err != nil {
			return err
		}
		if !h.V2 && slices.Contains(hier.Names, "cpuset") {
			// The kernel gives children their processors then, for less than reading and writing them costs.
			_ = os.WriteFile(filepath.Join(filepath.Dir(dir), "cgroup.clone_children"), []byte("1"), 0)
		}
		err = unix.Mkdir(dir, 0o755)
	}
	if err != nil && err != unix.EEXIST {
		return fmt.Errorf("making the cgroup %s: %w", dir, err)
	}
	if h.V2 {
		return delegate(filepath.Dir(dir))
	}
	if slices.Contains(hier.Names, "cpuset") {
		return inheritCpuset(dir)
	}
	return nil
}

// inheritCpuset gives dir its parent's processors and memory nodes where it has none: nothing can run in it before.
// A parent that somebody else is just making may have none yet either; it gets its own parent's
// first, up to the hierarchy's root, which has all.
func inheritCpuset(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || strings.TrimSpace(string(have)) != "" {
			continue
		}
		above := filepath.Join(filepath.Dir(dir), file)
		parent, err := os.ReadFile(above)
		if err == nil && strings.TrimSpace(string(parent)) == "" {
			if err := inheritCpuset(filepath.Dir(dir)); err != nil {
				return err
			}
			parent, err = os.ReadFile(above)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), parent, 0)
		}
		if err != nil {
			return fmt.Errorf("cgroup %s: taking over %s: %w", dir, file, err)
		}
	}
	return nil
}

// delegate lets children of dir have every controller that dir has.
func delegate(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil // the root of a hierarchy that hides it
	}
	on, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	for _, c := range strings.Fields(string(have)) {
		if strings.Contains(" "+strings.TrimSpace(string(on))+" ", " "+c+" ") {
			continue
		}
		// One at a time: one that cannot be had (realtime cpu) must not cost the others.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0)
	}
	return nil
}

// Tasks are the files that a single-threaded process writes "0" to in order to enter a v1 cgroup.
func Tasks(dirs map[string]string) []string {
	var out []string
	seen := map[string]bool{}
	for name, dir := range dirs {
		if name != "" && name != "unified" && !seen[dir] {
			seen[dir] = true
			out = append(out, dir+"/tasks")
		}
	}
	return out
}
