package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/sys/cgroup"
	"github.com/gantry-engine/gantry/runtime"
	"github.com/gantry-engine/gantry/runtime/program"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

type createOptions struct {
	bundle, pidFile, console string
	keep                     int
	noPivot                  bool
}

func createFlags(cmd *cobra.Command, o *createOptions) {
	f := cmd.Flags()
	f.StringVarP(&o.bundle, "bundle", "b", ".", "Path to the bundle")
	f.StringVar(&o.pidFile, "pid-file", "", "File to write the process's number to")
	f.StringVar(&o.console, "console-socket", "", "Socket that takes the terminal's master")
	f.IntVar(&o.keep, "preserve-fds", 0, "Further descriptors to pass on")
	f.BoolVar(&o.noPivot, "no-pivot", false, "Do not use pivot_root")
}

func createCommand(g *globals) *cobra.Command {
	o := &createOptions{}
	cmd := &cobra.Command{Use: "create ID", Short: "Create a container", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		_, err := g.create(args[0], o)
		return err
	}}
	createFlags(cmd, o)
	return cmd
}

func readSpec(bundle string) (*specs.Spec, error) {
	b, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	if s.Version == "" {
		return nil, errors.New("config.json has no ociVersion")
	}
	return s, nil
}

func initBinary() (*os.File, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return spawn.MemFile(filepath.Join(filepath.Dir(self), "gantry-init"))
}

// create makes the container up to its start gate.
func (g *globals) create(id string, o *createOptions) (_ *record, err error) {
	if g.systemdCgroup {
		return nil, errors.New("--systemd-cgroup is not supported yet")
	}
	dir, err := g.dir(id)
	if err != nil {
		return nil, err
	}
	bundle, err := filepath.Abs(o.bundle)
	if err != nil {
		return nil, err
	}
	s, err := readSpec(bundle)
	if err != nil {
		return nil, err
	}
	var back undo.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, back.Run(context.Background()))
		}
	}()
	if err := os.MkdirAll(g.root, 0o700); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		if os.IsExist(err) {
			return nil, fmt.Errorf("container with id %s exists already", id)
		}
		return nil, err
	}
	back.Push("state directory", func(context.Context) error { return os.RemoveAll(dir) })
	r := &record{State: specs.State{Version: specs.Version, ID: id, Bundle: bundle, Annotations: s.Annotations}, Path: "/gantry/" + id}
	if s.Linux != nil && s.Linux.CgroupsPath != "" {
		r.Path = s.Linux.CgroupsPath // a relative one is relative to the root cgroup
	}
	if strings.Count(r.Path, ":") == 2 {
		return nil, fmt.Errorf("cgroupsPath %q is systemd's form slice:prefix:name, which is not supported: give a path", r.Path)
	}
	if s.Hooks != nil {
		r.Hooks = &specs.Hooks{Poststart: s.Hooks.Poststart, Poststop: s.Hooks.Poststop}
	}
	r.Created = time.Now().UTC()
	if r.Cgroup, err = makeCgroup(s, r.Path); err != nil {
		return nil, err
	}
	back.Push("cgroup", func(context.Context) error { return cgroup.Destroy(r.Cgroup) })
	back.Push("poststop hooks", func(context.Context) error { poststop(r); return nil })
	err = g.launch(s, r, dir, o)
	if r.Pid != 0 {
		back.Push("process", func(context.Context) error { return reapNow(r.Pid) })
	}
	if err != nil {
		return nil, err
	}
	r.Start = startOf(r.Pid)
	if err := g.save(r); err != nil {
		return nil, err
	}
	if o.pidFile != "" {
		return r, os.WriteFile(o.pidFile, []byte(strconv.Itoa(r.Pid)), 0o644)
	}
	return r, nil
}

func (g *globals) launch(s *specs.Spec, r *record, dir string, o *createOptions) error {
	opts := runtime.Options{Bundle: r.Bundle, Gate: true, HostHooks: true, Chroot: true, NoPivot: o.noPivot, KeepFDs: o.keep, CgroupV2: r.Cgroup[""], Tasks: cgroup.Tasks(r.Cgroup)}
	for name, d := range r.Cgroup {
		opts.CgroupDirs = append(opts.CgroupDirs, runtime.CgroupDir{Name: strings.TrimPrefix(name, "name="), Dir: d})
	}
	prog, err := runtime.Compile(s, opts)
	if err != nil {
		return err
	}
	if prog.Terminal && o.console == "" {
		return errors.New("process.terminal is set: give --console-socket, a socket that takes the terminal")
	}
	if !prog.Terminal && o.console != "" {
		return errors.New("--console-socket is given, but process.terminal is not set")
	}
	if !ownMounts(s) {
		warn("the configuration makes no mount namespace: mounts, devices, masked and read-only paths are left out, the root is a chroot")
	}
	initFile, err := initBinary()
	if err != nil {
		return err
	}
	defer initFile.Close()
	gate := filepath.Join(dir, "gate")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		return err
	}
	gateFile, err := os.OpenFile(gate, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer gateFile.Close()
	cfg := &spawn.Config{Program: prog.Init, Facts: prog.Facts, Init: initFile, Stdio: [3]int{0, 1, 2},
		Gate: int(gateFile.Fd()), NetNS: -1, TargetPIDFD: -1}
	for i := range o.keep {
		cfg.Keep = append(cfg.Keep, 3+i)
	}
	proc, err := spawn.Start(cfg)
	if err != nil {
		return err
	}
	defer unix.Close(proc.PIDFD)
	r.Pid = proc.PID
	return proc.Run(spawn.Handler{
		Ready:    func() bool { return true },
		Warning:  warn,
		Terminal: func(master int) error { return sendTerminal(o.console, master) },
		Hook: func(point int) ([]byte, error) {
			if point != program.HookCreateRuntime {
				return json.Marshal(r.at(specs.StateCreated))
			}
			// Prestart hooks are of a time when they ran at start: they read "created".
			//lint:ignore SA1019 deprecated, not gone
			for _, h := range s.Hooks.Prestart {
				if err := runHook(h, r.at(specs.StateCreated)); err != nil {
					return nil, err
				}
			}
			for _, h := range s.Hooks.CreateRuntime {
				if err := runHook(h, r.at(specs.StateCreating)); err != nil {
					return nil, err
				}
			}
			return json.Marshal(r.at(specs.StateCreating))
		},
	})
}

// ownMounts tells whether the container makes a mount namespace.
func ownMounts(s *specs.Spec) bool {
	return s.Linux != nil && slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.MountNamespace && n.Path == ""
	})
}

func warn(text string) { fmt.Fprintln(os.Stderr, "warning:", text) }

// reapNow ends a process that is our child.
func reapNow(pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return err
	}
	_, err := unix.Wait4(pid, nil, 0, nil)
	return err
}
