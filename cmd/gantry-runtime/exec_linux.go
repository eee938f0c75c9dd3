package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/cgroup"
	"github.com/gantry-engine/gantry/runtime"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

type execOptions struct {
	process, pidFile, console, cwd, user string
	env, caps                            []string
	terminal, detach                     bool
	keep                                 int
}

func execCommand(g *globals) *cobra.Command {
	o := &execOptions{}
	cmd := &cobra.Command{Use: "exec ID [COMMAND...]", Short: "Run a further process", Args: cobra.MinimumNArgs(1), RunE: func(_ *cobra.Command, a []string) error {
		return g.exec(a[0], a[1:], o)
	}}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVarP(&o.process, "process", "p", "", "File with an OCI process")
	f.StringVar(&o.pidFile, "pid-file", "", "File to write the process's number to")
	f.StringVar(&o.console, "console-socket", "", "Socket that takes the terminal's master")
	f.StringVar(&o.cwd, "cwd", "", "Working directory")
	f.StringVarP(&o.user, "user", "u", "", "uid[:gid]")
	f.StringArrayVarP(&o.env, "env", "e", nil, "Environment variable")
	f.StringArrayVarP(&o.caps, "cap", "c", nil, "Capability to add")
	f.BoolVarP(&o.terminal, "tty", "t", false, "With a terminal")
	f.BoolVarP(&o.detach, "detach", "d", false, "Do not wait")
	f.IntVar(&o.keep, "preserve-fds", 0, "Further descriptors to pass on")
	return cmd
}

// processOf gives what to execute: a file's, or the container's own process with changes.
func (o *execOptions) processOf(s *specs.Spec, args []string) (*specs.Process, error) {
	p := s.Process
	if o.process != "" {
		b, err := os.ReadFile(o.process)
		if err != nil {
			return nil, err
		}
		p = &specs.Process{}
		if err := json.Unmarshal(b, p); err != nil {
			return nil, fmt.Errorf("process %s: %w", o.process, err)
		}
		p.Terminal = p.Terminal || o.terminal
		return p, nil
	}
	if p == nil || len(args) == 0 {
		return nil, errors.New("there is nothing to execute: give a command or --process")
	}
	p.Args, p.Terminal, p.Env = args, o.terminal, append(p.Env, o.env...)
	if o.cwd != "" {
		p.Cwd = o.cwd
	}
	if o.user != "" {
		uid, gid, both := strings.Cut(o.user, ":")
		n, err := strconv.ParseUint(uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %q: a number is needed: %w", o.user, err)
		}
		p.User = specs.User{UID: uint32(n)}
		if both {
			if n, err = strconv.ParseUint(gid, 10, 32); err != nil {
				return nil, fmt.Errorf("user %q: the group must be a number: %w", o.user, err)
			}
			p.User.GID = uint32(n)
		}
	}
	if len(o.caps) > 0 {
		if p.Capabilities == nil {
			p.Capabilities = &specs.LinuxCapabilities{}
		}
		c := p.Capabilities
		c.Bounding, c.Effective, c.Permitted = append(c.Bounding, o.caps...), append(c.Effective, o.caps...), append(c.Permitted, o.caps...)
	}
	return p, nil
}

func (g *globals) exec(id string, args []string, o *execOptions) error {
	r, err := g.load(id)
	if err != nil {
		return err
	}
	if r.Status != specs.StateRunning {
		return fmt.Errorf("cannot exec in container %q: it is %s, not running", id, r.Status)
	}
	s, err := readSpec(r.Bundle)
	if err != nil {
		return err
	}
	if s.Process, err = o.processOf(s, args); err != nil {
		return err
	}
	if s.Process.Terminal && o.console == "" {
		return errors.New("a terminal needs --console-socket, a socket that takes it")
	}
	target, err := unix.PidfdOpen(r.Pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if !r.alive() {
		return fmt.Errorf("cannot exec in container %q: it is not running", id)
	}
	prog, err := runtime.Compile(s, runtime.Options{Exec: true, TargetNamespaces: namespacesOf(r.Pid), KeepFDs: o.keep,
		CgroupV2: r.Cgroup[""], Tasks: cgroup.Tasks(r.Cgroup)})
	if err != nil {
		return err
	}
	initFile, err := initBinary()
	if err != nil {
		return err
	}
	defer initFile.Close()
	cfg := &spawn.Config{Program: prog.Init, Facts: prog.Facts, Init: initFile, Stdio: [3]int{0, 1, 2}, Gate: -1, NetNS: -1, TargetPIDFD: target}
	for i := range o.keep {
		cfg.Keep = append(cfg.Keep, 3+i)
	}
	proc, err := spawn.Start(cfg)
	if err != nil {
		return err
	}
	defer unix.Close(proc.PIDFD)
	if err := proc.Run(spawn.Handler{Warning: warn, Terminal: func(m int) error { return sendTerminal(o.console, m) }}); err != nil {
		return errors.Join(err, reapNow(proc.PID))
	}
	if o.pidFile != "" {
		if err := os.WriteFile(o.pidFile, []byte(strconv.Itoa(proc.PID)), 0o644); err != nil {
			return errors.Join(err, reapNow(proc.PID))
		}
	}
	if o.detach {
		return nil
	}
	os.Exit(waitFor(proc.PID))
	return nil
}

// namespacesOf gives the CLONE_NEW… flags of those namespaces of a process that are not ours.
func namespacesOf(pid int) (flags uint64) {
	for kind, file := range map[specs.LinuxNamespaceType]string{specs.PIDNamespace: "pid", specs.NetworkNamespace: "net", specs.MountNamespace: "mnt",
		specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.UserNamespace: "user", specs.CgroupNamespace: "cgroup", specs.TimeNamespace: "time"} {
		theirs, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns", file))
		ours, err2 := os.Readlink(filepath.Join("/proc/self/ns", file))
		if err == nil && err2 == nil && theirs != ours {
			flags |= runtime.NamespaceFlag(kind)
		}
	}
	return flags
}

// waitFor reaps a child and gives its exit code as shells do.
func waitFor(pid int) int {
	var st unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &st, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 255
		}
		if st.Signaled() {
			return 128 + int(st.Signal())
		}
		return st.ExitStatus()
	}
}
