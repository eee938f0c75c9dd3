package cgroup

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/systemd"
)

// Scope names a container's transient unit: Prefix-Name.scope in Slice ("system.slice", "a-b.slice").
type Scope struct{ Slice, Prefix, Name string }

// ParseScope reads the form slice:prefix:name of an OCI configuration's cgroupsPath. An empty slice
// is system.slice.
func ParseScope(text string) (Scope, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 || parts[2] == "" {
		return Scope{}, fmt.Errorf("cgroups path %q is not of systemd's form slice:prefix:name: %w", text, errdefs.ErrInvalidArgument)
	}
	s := Scope{Slice: parts[0], Prefix: parts[1], Name: parts[2]}
	if s.Slice == "" {
		s.Slice = "system.slice"
	}
	_, err := s.Path()
	return s, err
}

// Unit is the unit's name.
func (s Scope) Unit() string { return s.Prefix + "-" + s.Name + ".scope" }

// Path is the cgroup's path below the hierarchy's root: "/a.slice/a-b.slice/prefix-name.scope".
func (s Scope) Path() (string, error) {
	dir, err := systemd.ExpandSlice(s.Slice)
	if err != nil {
		return "", fmt.Errorf("cgroup parent %q: systemd takes slices only, like \"containers.slice\" or \"a-b.slice\": %w", s.Slice, errdefs.ErrInvalidArgument)
	}
	if strings.Contains(s.Prefix+s.Name, "/") {
		return "", fmt.Errorf("systemd scope %q: a unit's name has no slash: %w", s.Unit(), errdefs.ErrInvalidArgument)
	}
	return path.Join(dir, s.Unit()), nil
}

// scopeAt is the scope of a path that Path made.
func scopeAt(cgroup string) Scope {
	prefix, name, _ := strings.Cut(strings.TrimSuffix(path.Base(cgroup), ".scope"), "-")
	return Scope{Slice: path.Base(path.Dir(cgroup)), Prefix: prefix, Name: name}
}

// CheckSystemd tells why systemd cannot make scopes here, or nil.
func CheckSystemd() error {
	if !systemd.IsRunningSystemd() {
		return fmt.Errorf("the systemd cgroup driver needs systemd as the host's init: use native.cgroupdriver=cgroupfs: %w", errdefs.ErrFailedPrecondition)
	}
	if !cgroups.IsCgroup2UnifiedMode() {
		return fmt.Errorf("the systemd cgroup driver needs cgroup v2 (the host has v1): use native.cgroupdriver=cgroupfs: %w", errdefs.ErrFailedPrecondition)
	}
	return nil
}

const unitTries = 100 // 1 s: a unit of the same name that just ended is forgotten soon

// Make lets systemd make the scope, delegated, with every controller accounted. Systemd makes none without a process,
// and ours is to be born inside: holder is a command that lives as long as its standard input is open, and
// stands in until release is called. A scope that is empty then goes away.
func (s Scope) Make(holder []string) (dirs map[string]string, release func(), err error) {
	at, err := s.Path()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(holder[0], holder[1:]...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("starting what holds the scope %s: %w", s.Unit(), err)
	}
	release = func() { end(stdin, cmd) }
	defer func() {
		if err != nil {
			release()
		}
	}()
	dir := path.Join("/sys/fs/cgroup", at)
	m, err := Manager(at, map[string]string{"": dir}, true, nil)
	if err != nil {
		return nil, nil, err
	}
	for try := 0; ; try++ {
		err = m.Apply(cmd.Process.Pid)
		if err == nil || try >= unitTries || !strings.Contains(err.Error(), "already") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("systemd made no scope %s: %w", s.Unit(), err)
	}
	return map[string]string{"": dir}, release, nil
}

func end(stdin io.Closer, cmd *exec.Cmd) {
	_ = stdin.Close()
	_ = cmd.Wait()
}

// DestroyScope kills what is inside, has systemd forget the unit, and removes what is left.
func DestroyScope(cgroup string, dirs map[string]string) error {
	kill(dirs[""])
	m, err := Manager(cgroup, dirs, true, nil)
	if err == nil {
		err = m.Destroy()
	}
	return errors.Join(err, Destroy(dirs))
}
