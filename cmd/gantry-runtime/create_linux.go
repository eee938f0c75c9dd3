package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
	"github.com/gantry-engine/gantry/internal/kit/sibling"
	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/sys/cgroup"
	"github.com/gantry-engine/gantry/runtime"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

type createOptions struct {
	bundle, pidFile, console string
	preserve                 int
	noPivot, noKeyring       bool
	detach                   bool
	front                    *foreground // takes the terminal when there is no socket
}

func createFlags(cmd *cobra.Command, o *createOptions) {
	f := cmd.Flags()
	f.StringVarP(&o.bundle, "bundle", "b", ".", "Path to the bundle")
	f.StringVar(&o.pidFile, "pid-file", "", "File to write the process's number to")
	f.StringVar(&o.console, "console-socket", "", "Socket that takes the terminal's master")
	f.IntVar(&o.preserve, "preserve-fds", 0, "Further descriptors to pass on, after those of $LISTEN_FDS")
	f.BoolVar(&o.noPivot, "no-pivot", false, "Do not use pivot_root")
	f.BoolVar(&o.noKeyring, "no-new-keyring", false, "Share the caller's session keyring")
}

func createCommand(g *globals) *cobra.Command {
	o := &createOptions{detach: true}
	cmd := &cobra.Command{Use: "create ID", Short: "Create a container", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		_, err := g.create(args[0], o)
		return err
	}}
	createFlags(cmd, o)
	return cmd
}

// readSpec reads a configuration, as bytes too.
func readSpec(dir string) (*specs.Spec, []byte, error) {
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, nil, err
	}
	s := &specs.Spec{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, nil, fmt.Errorf("config.json: %w", err)
	}
	if s.Version == "" {
		return nil, nil, errors.New("config.json has no ociVersion")
	}
	return s, b, nil
}

func initBinary() (*os.File, error) {
	return spawn.MemFile(sibling.Path("gantry-init"))
}

// create makes the container up to its start gate. Whatever fails, and a signal that asks for the end,
// undoes all of it.
func (g *globals) create(id string, o *createOptions) (_ *record, err error) {
	dir, err := g.dir(id)
	if err != nil {
		return nil, err
	}
	bundle, err := filepath.Abs(o.bundle)
	if err != nil {
		return nil, err
	}
	s, text, err := readSpec(bundle)
	if err != nil {
		return nil, err
	}
	keep, err := keepDescriptors(s, o.preserve)
	if err != nil {
		return nil, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	var back undo.Stack
	defer back.OnError(ctx, &err)
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
	r, err := newRecord(id, bundle, s, g.systemdCgroup)
	if err != nil {
		return nil, err
	}
	inside, release, err := makeCgroup(s, r)
	if err != nil {
		return nil, err
	}
	defer release()
	back.Push("cgroup", func(context.Context) error { return r.destroyCgroup() })
	// From here on delete --force finds what there is, should this process be killed.
	if err := errors.Join(g.save(r), os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600)); err != nil {
		return nil, err
	}
	back.Push("poststop hooks", func(ctx context.Context) error { poststop(ctx, r); return nil })
	err = g.launch(ctx, s, r, dir, keep, o)
	if r.Pid != 0 {
		back.Push("process", func(context.Context) error { return reapNow(r.Pid) })
	}
	if err == nil {
		err = inside()
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	r.Ready = true
	if err := g.save(r); err != nil {
		return nil, err
	}
	return r, writePID(o.pidFile, r.Pid)
}

func newRecord(id, bundle string, s *specs.Spec, systemd bool) (*record, error) {
	r := &record{State: specs.State{Version: specs.Version, ID: id, Bundle: bundle, Annotations: s.Annotations}, Path: "/gantry/" + id, Created: time.Now().UTC()}
	if s.Linux != nil && s.Linux.CgroupsPath != "" {
		r.Path = s.Linux.CgroupsPath // a relative one is relative to the root cgroup
	}
	if !systemd && strings.Count(r.Path, ":") == 2 {
		return nil, fmt.Errorf("cgroupsPath %q is systemd's form slice:prefix:name: give a path, or --systemd-cgroup", r.Path)
	}
	r.Systemd = systemd
	if s.Root != nil {
		if r.Rootfs = s.Root.Path; !filepath.IsAbs(r.Rootfs) {
			r.Rootfs = filepath.Join(bundle, r.Rootfs)
		}
	}
	if s.Hooks != nil {
		r.Hooks = &specs.Hooks{Poststart: s.Hooks.Poststart, Poststop: s.Hooks.Poststop}
	}
	return r, nil
}

func writePID(file string, pid int) error {
	if file == "" {
		return nil
	}
	return atomicfile.WriteVolatile(file, []byte(strconv.Itoa(pid)), 0o644)
}

// keepDescriptors gives how many descriptors from 3 on the container gets: those of socket activation, which
// its process is told of, and preserve more.
func keepDescriptors(s *specs.Spec, preserve int) (int, error) {
	listen, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if listen > 0 && s.Process != nil {
		s.Process.Env = append(s.Process.Env, "LISTEN_FDS="+strconv.Itoa(listen), "LISTEN_PID=1")
	}
	keep := max(listen, 0) + max(preserve, 0)
	for fd := 3; fd < 3+keep; fd++ {
		// What was inherited survived exec; what closes on exec is our own.
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			return 0, fmt.Errorf("descriptor %d of the %d to preserve is not open", fd, keep)
		}
	}
	return keep, nil
}

func descriptors(n int) (out []int) {
	for i := range n {
		out = append(out, 3+i)
	}
	return out
}

// fifo makes a named pipe and opens it.
func fifo(path string) (*os.File, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}

func (g *globals) launch(ctx context.Context, s *specs.Spec, r *record, dir string, keep int, o *createOptions) (err error) {
	opts := runtime.Options{Bundle: r.Bundle, Gate: true, Report: true, HostHooks: true, Chroot: true, NoPivot: o.noPivot, KeepFDs: keep,
		CgroupV2: r.Cgroup[""], Tasks: cgroup.Tasks(r.Cgroup)}
	if !o.noKeyring {
		r.Keyring = "_ses." + r.ID
	}
	opts.Keyring = r.Keyring
	opts.CgroupDirs = shownCgroups(r.Cgroup, r.Path)
	prog, err := runtime.Compile(s, opts)
	if err != nil {
		return err
	}
	if err := checkConsole(prog.Terminal, o.detach, o.console); err != nil {
		return err
	}
	if !ownMounts(s) {
		warn("the configuration makes no mount namespace: mounts and devices are left out, the root is a chroot")
	}
	initFile, err := initBinary()
	if err != nil {
		return err
	}
	defer initFile.Close()
	gate, err := fifo(filepath.Join(dir, "gate"))
	if err != nil {
		return err
	}
	defer gate.Close()
	report, err := fifo(filepath.Join(dir, "report"))
	if err != nil {
		return err
	}
	defer report.Close()
	cfg := &spawn.Config{Program: prog.Init, Facts: prog.Facts, Init: initFile, Stdio: [3]int{0, 1, 2}, Keep: descriptors(keep),
		Gate: int(gate.Fd()), Report: int(report.Fd()), NetNS: -1, TargetPIDFD: -1}
	proc, err := spawn.Start(cfg)
	if err != nil {
		return err
	}
	defer unix.Close(proc.PIDFD)
	r.Pid, r.Start = proc.PID, startOf(proc.PID)
	if err := g.save(r); err != nil {
		proc.Abort()
		return err
	}
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { // a hook in the container may take as long as it likes
		defer close(killed)
		_ = unix.PidfdSendSignal(proc.PIDFD, unix.SIGKILL, nil, 0)
	})
	defer func() {
		if !stop() {
			<-killed
			err = context.Cause(ctx)
		}
	}()
	return proc.Run(spawn.Handler{
		Ready:    func() bool { return true },
		Warning:  warn,
		Terminal: o.terminal,
		Notify: func(fd int) error {
			return sendListener(s.Linux.Seccomp, r.at(specs.StateCreating), r.Pid, fd)
		},
		Hook: func(point int) ([]byte, error) { return hookPoint(ctx, point, s.Hooks, r) },
	})
}

func (o *createOptions) terminal(master int) error {
	if o.console == "" {
		return o.front.take(master)
	}
	return sendTerminal(o.console, master)
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
	reap(pid, false)
	return nil
}
