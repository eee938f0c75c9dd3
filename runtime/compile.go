package runtime

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/seccomp"
	"github.com/gantry-engine/gantry/runtime/program"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

var cloneFlags = map[specs.LinuxNamespaceType]uint64{
	specs.PIDNamespace:     unix.CLONE_NEWPID,
	specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.MountNamespace:   unix.CLONE_NEWNS,
	specs.IPCNamespace:     unix.CLONE_NEWIPC,
	specs.UTSNamespace:     unix.CLONE_NEWUTS,
	specs.UserNamespace:    unix.CLONE_NEWUSER,
	specs.CgroupNamespace:  unix.CLONE_NEWCGROUP,
	specs.TimeNamespace:    unix.CLONE_NEWTIME,
}

// NamespaceFlag is the CLONE_NEW… flag of a namespace kind, or 0.
func NamespaceFlag(kind specs.LinuxNamespaceType) uint64 { return cloneFlags[kind] }

type compiler struct {
	spec    *specs.Spec
	opts    Options
	w       *program.Writer
	facts   spawn.Facts
	made    uint64 // namespaces made anew
	late    uint64 // of them, those that init leaves itself
	newUser bool
	// joinsUser tells that the user namespace is given by path.
	joinsUser bool
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

// Compile turns a configuration into a program. It looks at nothing but its
// arguments. Errors are errdefs.ErrInvalidArgument or errdefs.ErrNotImplemented.
func Compile(s *specs.Spec, opts Options) (*Program, error) {
	if s.Process == nil {
		return nil, invalid("the configuration has no process")
	}
	if s.Linux == nil {
		c := *s
		c.Linux = &specs.Linux{}
		s = &c
	}
	c := &compiler{spec: s, opts: opts, w: program.NewWriter()}
	steps := []func() error{c.unsupported, c.namespaces, c.root, c.pivot, c.process, c.identity}
	if opts.Exec {
		steps = []func() error{c.unsupported, c.joinTarget, c.process, c.identity}
	}
	// Until exec the process has more rights than its container, and others may see it: those of a container
	// that it joins, or whose PID namespace it shares while it waits at the gate.
	c.w.Begin(program.OpHideProc)
	if c.stays() {
		c.w.Begin(program.OpKeepSelf).Bool(s.Process.SelinuxLabel != "" || s.Process.ApparmorProfile != "")
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	c.facts.Cgroup2, c.facts.Tasks = opts.CgroupV2, opts.Tasks
	c.facts.Terminal = s.Process.Terminal
	return &Program{Init: c.w.Bytes(), Facts: c.facts, Terminal: s.Process.Terminal}, nil
}

func (c *compiler) joinTarget() error {
	c.facts.TargetNamespaces = c.opts.TargetNamespaces
	if c.opts.Chroot { // joining its namespaces does not lead into its root
		if err := c.rootfs(); err != nil {
			return err
		}
		c.w.Begin(program.OpPivot).Num(program.PivotChroot)
	}
	return c.cwdTerminal()
}

func (c *compiler) cwdTerminal() error {
	p := c.spec.Process
	if p.Terminal {
		var rows, cols uint
		if p.ConsoleSize != nil {
			rows, cols = p.ConsoleSize.Height, p.ConsoleSize.Width
		}
		flags := uint64(program.TerminalConsole)
		if c.opts.Exec {
			flags = 0
		}
		c.w.Begin(program.OpTerminal).Num(flags).Num(uint64(rows)).Num(uint64(cols))
	}
	if c.opts.Exec {
		c.cwd()
	}
	return nil
}

func (c *compiler) cwd() {
	cwd := c.spec.Process.Cwd
	if cwd == "" {
		cwd = "/"
	}
	c.w.Begin(program.OpCwd).Str(cwd).Bool(c.opts.CreateCwd)
}

func (c *compiler) namespaces() error {
	l := c.spec.Linux
	seen := map[specs.LinuxNamespaceType]bool{}
	for _, ns := range l.Namespaces {
		flag, ok := cloneFlags[ns.Type]
		if !ok {
			return invalid("namespace type %q is not known", ns.Type)
		}
		if seen[ns.Type] {
			return invalid("namespace %q is given twice", ns.Type)
		}
		seen[ns.Type] = true
		switch {
		case c.opts.Joined&flag != 0 || ns.Type == specs.NetworkNamespace && c.opts.NetNS:
		case ns.Path != "":
			if !filepath.IsAbs(ns.Path) {
				return invalid("namespace %s: path %q is not absolute", ns.Type, ns.Path)
			}
			c.facts.Joins = append(c.facts.Joins, spawn.Join{Flag: flag, Path: ns.Path})
			c.joinsUser = c.joinsUser || flag == unix.CLONE_NEWUSER
		default:
			c.made |= flag
		}
	}
	c.late = c.made & unix.CLONE_NEWCGROUP
	c.facts.Namespaces = c.made &^ c.late
	c.newUser = c.made&unix.CLONE_NEWUSER != 0
	if c.newUser {
		if len(l.UIDMappings) == 0 || len(l.GIDMappings) == 0 {
			return invalid("a user namespace needs uidMappings and gidMappings")
		}
		c.facts.UIDMap, c.facts.GIDMap, c.facts.Setgroups = idLines(l.UIDMappings), idLines(l.GIDMappings), true
	} else if len(l.UIDMappings)+len(l.GIDMappings) > 0 && !seen[specs.UserNamespace] {
		return invalid("id mappings are given, but no user namespace")
	}
	if c.late != 0 {
		c.w.Begin(program.OpUnshare).Num(c.late)
	}
	if len(l.TimeOffsets) > 0 {
		if c.made&unix.CLONE_NEWTIME == 0 {
			return invalid("time offsets are given, but no time namespace is made")
		}
		var text strings.Builder
		for _, clock := range []string{"monotonic", "boottime"} {
			if o, ok := l.TimeOffsets[clock]; ok {
				fmt.Fprintf(&text, "%s %d %d\n", clock, o.Secs, o.Nanosecs)
			}
		}
		c.facts.TimeOffsets = text.String()
	}
	for op, name := range map[program.Op]string{program.OpHostname: c.spec.Hostname, program.OpDomainname: c.spec.Domainname} {
		if name == "" {
			continue
		}
		if c.made&unix.CLONE_NEWUTS == 0 && !seen[specs.UTSNamespace] {
			return invalid("unable to set hostname without a private UTS namespace")
		}
		c.w.Begin(op).Str(name)
	}
	return nil
}

func idLines(l []specs.LinuxIDMapping) []string {
	out := make([]string, len(l))
	for i, m := range l {
		out[i] = fmt.Sprintf("%d %d %d", m.ContainerID, m.HostID, m.Size)
	}
	return out
}

var propagationFlags = map[string]uint64{
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
	"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

func (c *compiler) root() error {
	if c.made&unix.CLONE_NEWNS == 0 {
		if c.opts.Chroot {
			return c.chrootOnly()
		}
		return invalid("the configuration has no mount namespace of its own: a container without one would change the host's mounts")
	}
	prop := c.spec.Linux.RootfsPropagation
	if prop != "" && propagationFlags[prop] == 0 {
		return invalid("rootfsPropagation %q is not known", prop)
	}
	if prop == "shared" || prop == "rshared" {
		c.w.Begin(program.OpPropagation).Num(0).Num(unix.MS_PRIVATE)
	} else {
		c.w.Begin(program.OpPropagation).Num(unix.MS_SLAVE | unix.MS_REC).Num(unix.MS_PRIVATE)
	}
	if err := c.rootfs(); err != nil {
		return err
	}
	for i := range c.spec.Mounts {
		if err := c.mount(&c.spec.Mounts[i]); err != nil {
			return err
		}
	}
	if err := c.devices(); err != nil {
		return err
	}
	return c.cwdTerminal()
}

// chrootOnly is for a configuration without a mount namespace of its own. What would protect the host and
// cannot be had without changing its mounts is refused; leaving it out would start a container with more rights
// than it was given.
func (c *compiler) chrootOnly() error {
	for _, f := range []struct {
		given bool
		name  string
	}{
		{len(c.spec.Linux.MaskedPaths) > 0, "linux.maskedPaths"},
		{len(c.spec.Linux.ReadonlyPaths) > 0, "linux.readonlyPaths"},
		{c.spec.Root != nil && c.spec.Root.Readonly, "root.readonly"},
		{c.spec.Linux.RootfsPropagation != "", "linux.rootfsPropagation"},
		{c.spec.Process.Terminal, "process.terminal"},
	} {
		if f.given {
			return invalid("%s needs a new mount namespace: without one it would change the mounts of somebody else", f.name)
		}
	}
	return c.rootfs()
}

func (c *compiler) rootfs() error {
	r := c.opts.Rootfs
	if c.chroot() && len(r.Lower) > 0 {
		return invalid("an overlay root needs a mount namespace of its own")
	}
	if len(r.Lower) == 0 && r.Path == "" && c.spec.Root != nil {
		r.Path = c.spec.Root.Path
		if !filepath.IsAbs(r.Path) {
			r.Path = filepath.Join(c.opts.Bundle, r.Path)
		}
	}
	switch {
	case len(r.Lower) > 0:
		if (r.Upper == "") != (r.Work == "") {
			return invalid("an overlay root needs both an upper and a work directory, or neither")
		}
		c.w.Begin(program.OpRootOverlay).List(r.Lower).Str(r.Upper).Str(r.Work).List(r.Options).Bool(r.Upper == "")
	case r.Path != "":
		c.w.Begin(program.OpRootBind).Str(r.Path).Bool(false).Bool(c.chroot())
	default:
		return invalid("the configuration has no root")
	}
	return nil
}

// chroot tells whether the mounts are somebody else's.
func (c *compiler) chroot() bool { return c.opts.Chroot && c.made&unix.CLONE_NEWNS == 0 }

func (c *compiler) pivot() error {
	l, h := c.spec.Linux, c.spec.Hooks
	if h != nil && c.opts.HostHooks {
		c.w.Begin(program.OpHook).Num(program.HookCreateRuntime)
		for _, hook := range h.CreateContainer {
			if err := c.hook(program.HookCreateContainer, hook); err != nil {
				return err
			}
		}
	}
	for _, key := range sortedKeys(l.Sysctl) {
		path, err := c.sysctl(key)
		if err != nil {
			return err
		}
		c.w.Begin(program.OpSysctl).Str(path).Str(l.Sysctl[key])
	}
	if c.chroot() {
		c.w.Begin(program.OpPivot).Num(program.PivotChroot)
		c.cwd()
		return nil
	}
	for _, p := range l.ReadonlyPaths {
		c.w.Begin(program.OpReadonly).Str(p)
	}
	for _, p := range l.MaskedPaths {
		c.w.Begin(program.OpMask).Str(p)
	}
	var flags uint64
	if c.opts.NoPivot {
		flags = program.PivotMove
	}
	c.w.Begin(program.OpPivot).Num(flags)
	if prop := propagationFlags[l.RootfsPropagation]; prop != 0 {
		c.w.Begin(program.OpRootFlags).Num(prop)
	}
	c.cwd()
	if c.spec.Root != nil && c.spec.Root.Readonly {
		c.w.Begin(program.OpRootReadonly)
	}
	return nil
}

func (c *compiler) hook(point int, h specs.Hook) error {
	timeout := 0
	if h.Timeout != nil {
		if timeout = *h.Timeout; timeout <= 0 {
			return invalid("hook %s: its timeout of %d seconds is not above zero", h.Path, timeout)
		}
	}
	if !filepath.IsAbs(h.Path) {
		return invalid("hook %q: its path is not absolute", h.Path)
	}
	c.w.Begin(program.OpHookRun).Num(uint64(point)).Str(h.Path).List(h.Args).List(h.Env).Num(uint64(timeout))
	return nil
}

// sysctl gives the path below /proc/sys; only settings that belong to a namespace of
// the container's own are let through.
func (c *compiler) sysctl(key string) (string, error) {
	path := strings.ReplaceAll(key, ".", "/")
	if strings.Contains(key, "/") { // a name with dots inside a component is written with slashes
		path = key
	}
	if slices.Contains(strings.Split(path, "/"), "..") {
		return "", invalid("sysctl %q is no name of a setting", key)
	}
	own := func(kind specs.LinuxNamespaceType) bool {
		for _, ns := range c.spec.Linux.Namespaces {
			if ns.Type == kind {
				return true
			}
		}
		return c.opts.Joined&cloneFlags[kind] != 0
	}
	switch {
	case strings.HasPrefix(path, "net/"):
		if own(specs.NetworkNamespace) || c.opts.NetNS {
			return path, nil
		}
		return "", invalid("sysctl %q is not allowed in the host's network namespace", key)
	case strings.HasPrefix(path, "fs/mqueue/"), strings.HasPrefix(path, "kernel/msg"), strings.HasPrefix(path, "kernel/sem"), strings.HasPrefix(path, "kernel/shm"):
		if own(specs.IPCNamespace) {
			return path, nil
		}
		return "", invalid("sysctl %q is not allowed in the host's IPC namespace", key)
	case path == "kernel/domainname", path == "kernel/hostname":
		if own(specs.UTSNamespace) && path == "kernel/domainname" {
			return path, nil
		}
	case strings.HasPrefix(path, "user/"):
		if own(specs.UserNamespace) {
			return path, nil
		}
	}
	return "", invalid("sysctl %q is not in a separate kernel namespace", key)
}

// seccompProgram compiles the filter; the same profile is compiled once.
func (c *compiler) seccompProgram() (op func(), err error) {
	s := c.spec.Linux.Seccomp
	if s == nil {
		return func() {}, nil
	}
	p, err := seccomp.Compile(s)
	if err != nil {
		return nil, err
	}
	flags := uint64(p.Flags)
	if p.Notify {
		flags |= program.SeccompNotify
	}
	return func() { c.w.Begin(program.OpSeccomp).Num(flags).Str(string(p.Code)) }, nil
}
