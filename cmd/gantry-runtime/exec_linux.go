package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
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
	label, apparmor                      string
	env, caps, cgroups                   []string
	groups                               []int64
	terminal, detach, noPrivs, paused    bool
	preserve                             int
}

func execCommand(g *globals) *cobra.Command {
	o := &execOptions{}
	cmd := &cobra.Command{Use: "exec ID [COMMAND...]", Short: "Run a further process", Args: cobra.MinimumNArgs(1), RunE: func(_ *cobra.Command, a []string) error {
		err := g.exec(a[0], a[1:], o)
		var code exitCode
		if err != nil && !errors.As(err, &code) {
			g.report(fmt.Errorf("exec failed: %w", err))
			return exitCode(255) // what a program ends with seldom
		}
		return err
	}}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVarP(&o.process, "process", "p", "", "File with an OCI process")
	f.StringVar(&o.pidFile, "pid-file", "", "File to write the process's number to")
	f.StringVar(&o.console, "console-socket", "", "Socket that takes the terminal's master")
	f.StringVar(&o.cwd, "cwd", "", "Working directory")
	f.StringVarP(&o.user, "user", "u", "", "uid[:gid]")
	f.Int64SliceVarP(&o.groups, "additional-gids", "g", nil, "Further groups")
	f.StringArrayVarP(&o.env, "env", "e", nil, "Environment variable")
	f.StringArrayVarP(&o.caps, "cap", "c", nil, "Capability to add")
	f.StringVar(&o.label, "process-label", "", "SELinux label")
	f.StringVar(&o.apparmor, "apparmor", "", "AppArmor profile")
	f.BoolVar(&o.noPrivs, "no-new-privs", false, "The process can gain no privileges")
	f.BoolVarP(&o.terminal, "tty", "t", false, "With a terminal")
	f.BoolVarP(&o.detach, "detach", "d", false, "Do not wait")
	f.IntVar(&o.preserve, "preserve-fds", 0, "Further descriptors to pass on, after those of $LISTEN_FDS")
	f.StringArrayVar(&o.cgroups, "cgroup", nil, "[CONTROLLERS:]PATH of a cgroup below the container's that exists")
	f.BoolVar(&o.paused, "ignore-paused", false, "Start it in a paused container too: it waits until the container is resumed")
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
	p.NoNewPrivileges = p.NoNewPrivileges || o.noPrivs
	if o.cwd != "" {
		p.Cwd = o.cwd
	}
	if o.label != "" {
		p.SelinuxLabel = o.label
	}
	if o.apparmor != "" {
		p.ApparmorProfile = o.apparmor
	}
	if err := o.identity(p); err != nil {
		return nil, err
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

func (o *execOptions) identity(p *specs.Process) error {
	if o.user != "" {
		uid, gid, both := strings.Cut(o.user, ":")
		n, err := strconv.ParseUint(uid, 10, 32)
		if err != nil {
			return fmt.Errorf("user %q: a number is needed: %w", o.user, err)
		}
		p.User = specs.User{UID: uint32(n), Umask: p.User.Umask}
		if both {
			if n, err = strconv.ParseUint(gid, 10, 32); err != nil {
				return fmt.Errorf("user %q: the group must be a number: %w", o.user, err)
			}
			p.User.GID = uint32(n)
		}
	}
	for _, g := range o.groups {
		if g < 0 || g > 1<<32-2 {
			return fmt.Errorf("group %d is out of range", g)
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(g))
	}
	return nil
}

// subCgroups gives the cgroups to enter: the container's, or existing ones below it.
func (o *execOptions) subCgroups(r *record) (map[string]string, error) {
	dirs := maps.Clone(r.Cgroup)
	for _, c := range o.cgroups {
		names, path, given := strings.Cut(c, ":")
		if !given {
			names, path = "", c
		}
		path = filepath.Clean("/" + path)
		for name, dir := range r.Cgroup {
			if names != "" && !slices.Contains(strings.Split(names, ","), strings.TrimPrefix(name, "name=")) {
				continue
			}
			sub := filepath.Join(dir, path)
			if _, err := os.Stat(sub); err != nil {
				return nil, fmt.Errorf("cgroup %q: %w", c, err)
			}
			dirs[name] = sub
		}
	}
	return dirs, nil
}

func (g *globals) exec(id string, args []string, o *execOptions) error {
	r, err := g.load(id)
	if err != nil {
		return err
	}
	switch {
	case r.Status == statePaused && !o.paused:
		return fmt.Errorf("cannot exec in container %q: it is paused; resume it or use --ignore-paused", id)
	case r.Status != specs.StateRunning && r.Status != specs.StateCreated && r.Status != statePaused:
		return fmt.Errorf("cannot exec in container %q: it is %s, not running", id, r.Status)
	}
	dir, _ := g.dir(id)
	s, _, err := readSpec(dir) // as it was at create
	if err != nil {
		return err
	}
	if s.Process, err = o.processOf(s, args); err != nil {
		return err
	}
	if err := checkConsole(s.Process.Terminal, o.detach, o.console); err != nil {
		return err
	}
	cfg, target, err := o.config(r, s)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	defer cfg.Init.Close()
	var front *foreground
	terminal := func(master int) error { return sendTerminal(o.console, master) }
	if !o.detach {
		front = newForeground()
		terminal = front.take
	}
	proc, err := spawn.Start(cfg)
	if err != nil {
		return err
	}
	defer unix.Close(proc.PIDFD)
	err = proc.Run(spawn.Handler{Warning: warn, Terminal: terminal, Notify: func(fd int) error {
		return sendListener(s.Linux.Seccomp, r.at(r.Status), proc.PID, fd)
	}})
	if err == nil {
		err = writePID(o.pidFile, proc.PID)
	}
	if err == nil && !o.detach {
		defer front.close()
		err = front.open()
	}
	if err != nil {
		return errors.Join(err, reapNow(proc.PID))
	}
	if o.detach {
		return nil
	}
	code, err := front.wait(proc.PID, false)
	if err != nil {
		return err
	}
	return exitCode(code)
}

// config is what to spawn. The caller closes target and Init.
func (o *execOptions) config(r *record, s *specs.Spec) (cfg *spawn.Config, target int, err error) {
	keep, err := keepDescriptors(s, o.preserve)
	if err != nil {
		return nil, -1, err
	}
	dirs, err := o.subCgroups(r)
	if err != nil {
		return nil, -1, err
	}
	if target, err = unix.PidfdOpen(r.Pid, 0); err != nil {
		return nil, -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(target)
		}
	}()
	if !r.alive() {
		return nil, -1, fmt.Errorf("cannot exec in container %q: it is not running", r.ID)
	}
	prog, err := runtime.Compile(s, runtime.Options{Exec: true, Bundle: r.Bundle, Chroot: !ownMounts(s), TargetNamespaces: namespacesOf(r.Pid), KeepFDs: keep, Keyring: r.Keyring,
		CgroupV2: dirs[""], Tasks: cgroup.Tasks(dirs)})
	if err != nil {
		return nil, -1, err
	}
	initFile, err := initBinary()
	if err != nil {
		return nil, -1, err
	}
	return &spawn.Config{Program: prog.Init, Facts: prog.Facts, Init: initFile, Stdio: [3]int{0, 1, 2}, Keep: descriptors(keep),
		Gate: -1, NetNS: -1, TargetPIDFD: target}, target, nil
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
