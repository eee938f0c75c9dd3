package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
)

// errNotRunning has the words by which containerd's shim knows that a process is gone already.
var errNotRunning = errors.New("container not running")

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_+.-]{1,255}$`)

// record is a container's state.json.
type record struct {
	specs.State
	Start  string            `json:"start"` // of the process, to tell it from a later one with its PID
	Cgroup map[string]string `json:"cgroup"`
	Path   string            `json:"cgroupPath"`

	Systemd bool `json:"systemd,omitempty"` // the cgroup is a scope of systemd's

	Rootfs  string       `json:"rootfs"`
	Created time.Time    `json:"created"`
	Keyring string       `json:"keyring,omitempty"`
	Ready   bool         `json:"ready"`           // created as a whole
	Hooks   *specs.Hooks `json:"hooks,omitempty"` // those that run after create
}

// at is the container's state as hooks read it at another status.
func (r *record) at(status specs.ContainerState) *specs.State {
	s := r.State
	s.Status = status
	if status == specs.StateStopped {
		s.Pid = 0
	}
	return &s
}

func (g *globals) dir(id string) (string, error) {
	if !idPattern.MatchString(id) || id == "." || id == ".." {
		return "", fmt.Errorf("container id %q is not allowed: letters, digits and _+-. only", id)
	}
	return filepath.Join(g.root, id), nil
}

func (g *globals) load(id string) (*record, error) {
	dir, err := g.dir(id)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("container %q does not exist", id)
	}
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("container %q: its state is damaged: %w", id, err)
	}
	if !r.Ready && (r.Pid == 0 || r.alive()) {
		r.Status = specs.StateCreating
	} else if !r.alive() {
		r.Status, r.Pid = specs.StateStopped, 0
	} else if _, err := os.Stat(filepath.Join(dir, "gate")); err == nil {
		r.Status = specs.StateCreated
	} else if r.paused() {
		r.Status = statePaused
	} else {
		r.Status = specs.StateRunning
	}
	return r, nil
}

func (g *globals) save(r *record) error {
	dir, err := g.dir(r.ID)
	if err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return atomicfile.WriteVolatile(filepath.Join(dir, "state.json"), b, 0o600)
}

func (r *record) alive() bool { return r.Pid > 0 && startOf(r.Pid) == r.Start && r.Start != "" }

// startOf is the start time of a process that is not dead, from /proc/<pid>/stat.
func startOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	f := strings.Fields(rest)
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return ""
	}
	return f[19]
}

func kill(r *record, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(r.Pid, 0)
	if err != nil {
		return fmt.Errorf("%w (%q): %w", errNotRunning, r.ID, err)
	}
	defer unix.Close(fd)
	if !r.alive() {
		return fmt.Errorf("%w (%q)", errNotRunning, r.ID)
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}
