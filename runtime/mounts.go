package runtime

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime/program"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

type mountFlag struct{ set, clear uint64 }

const atimes = unix.MOUNT_ATTR__ATIME

var mountFlags = map[string]mountFlag{
	"ro": {set: unix.MOUNT_ATTR_RDONLY}, "rw": {clear: unix.MOUNT_ATTR_RDONLY},
	"nosuid": {set: unix.MOUNT_ATTR_NOSUID}, "suid": {clear: unix.MOUNT_ATTR_NOSUID},
	"nodev": {set: unix.MOUNT_ATTR_NODEV}, "dev": {clear: unix.MOUNT_ATTR_NODEV},
	"noexec": {set: unix.MOUNT_ATTR_NOEXEC}, "exec": {clear: unix.MOUNT_ATTR_NOEXEC},
	"nodiratime": {set: unix.MOUNT_ATTR_NODIRATIME}, "diratime": {clear: unix.MOUNT_ATTR_NODIRATIME},
	"nosymfollow": {set: unix.MOUNT_ATTR_NOSYMFOLLOW}, "symfollow": {clear: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"relatime": {clear: atimes}, "norelatime": {clear: atimes, set: unix.MOUNT_ATTR_STRICTATIME},
	"noatime": {clear: atimes, set: unix.MOUNT_ATTR_NOATIME}, "atime": {clear: atimes},
	"strictatime": {clear: atimes, set: unix.MOUNT_ATTR_STRICTATIME}, "nostrictatime": {clear: atimes},
}

// optionsWithoutEffect are accepted and leave a mount as it is: defaults, and what kernels since long decide alone.
var optionsWithoutEffect = []string{"defaults", "remount", "silent", "loud", "iversion", "noiversion", ""}

// MountOptions lists the options of mounts that are interpreted here, sorted; others go to the file system.
func MountOptions() []string {
	out := []string{"bind", "rbind", "tmpcopyup", "idmap", "ridmap", "sync", "dirsync", "lazytime"}
	for name := range mountFlags {
		out = append(out, name, "r"+name)
	}
	for name := range propagationFlags {
		out = append(out, name)
	}
	for _, name := range optionsWithoutEffect {
		if name != "" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// mountOptions is an OCI mount's option list, sorted out.
type mountOptions struct {
	flags, rec    mountFlag
	propagation   uint64
	bind, rbind   bool
	copyUp        bool
	idmap, ridmap bool
	data          []string
}

func (f *mountFlag) add(o mountFlag) {
	f.set, f.clear = f.set&^o.clear|o.set, f.clear&^o.set|o.clear
	if o.clear&atimes != 0 { // the kernel wants the whole field cleared when any of it is set
		f.clear |= atimes
	}
}

func parseMountOptions(list []string) (o mountOptions) {
	for _, opt := range list {
		if f, ok := mountFlags[opt]; ok {
			o.flags.add(f)
			continue
		}
		if f, ok := mountFlags[strings.TrimPrefix(opt, "r")]; ok && strings.HasPrefix(opt, "r") {
			o.rec.add(f)
			continue
		}
		if p := propagationFlags[opt]; p != 0 {
			o.propagation = p
			continue
		}
		switch opt {
		case "bind":
			o.bind = true
		case "rbind":
			o.bind, o.rbind = true, true
		case "tmpcopyup":
			o.copyUp = true
		case "idmap":
			o.idmap = true
		case "ridmap":
			o.idmap, o.ridmap = true, true
		default:
			if slices.Contains(optionsWithoutEffect, opt) {
				continue
			}
			o.data = append(o.data, opt)
		}
	}
	return o
}

// procFiles are the files below /proc that a mount may replace: they inform programs and
// change nothing. Elsewhere a mount could stand in for what the kernel answers or takes (CVE-2025-52881).
var procFiles = []string{"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/net/dev", "/proc/slabinfo",
	"/proc/stat", "/proc/swaps", "/proc/sys/crypto/fips_enabled", "/proc/sys/kernel/ns_last_pid", "/proc/uptime"}

func (c *compiler) mount(m *specs.Mount) error {
	o := parseMountOptions(m.Options)
	dest := m.Destination
	if !filepath.IsAbs(dest) {
		dest = "/" + dest
	}
	if strings.ContainsRune(dest+m.Source, 0) {
		return invalid("mount %q: a path contains a zero byte", dest)
	}
	if clean := filepath.Clean(dest); strings.HasPrefix(clean, "/proc/") && !slices.Contains(procFiles, clean) {
		return invalid("mount %s: it is inside /proc, where only informative files can be replaced (%s)", dest, strings.Join(procFiles, ", "))
	}
	if filepath.Clean(dest) == "/proc" { // where init looks at what a bind shows
		if dest = "/proc"; !o.bind && m.Type != "bind" && m.Type != "proc" {
			return invalid("mount %s: only a procfs goes there, not a file system of type %q", dest, m.Type)
		}
	}
	switch {
	case o.bind || m.Type == "bind":
		return c.bindMount(m, dest, o)
	case m.Type == "cgroup" || m.Type == "cgroup2":
		return c.cgroupMount(dest, o)
	case m.Type == "":
		return invalid("mount %s has no type", dest)
	}
	if o.copyUp && m.Type != "tmpfs" {
		return invalid("mount %s: tmpcopyup is for tmpfs only", dest)
	}
	var flags uint64
	if o.copyUp {
		flags |= program.MountCopyUp
	}
	if m.Type == "sysfs" {
		flags |= program.MountBindHost
	}
	if l := c.spec.Linux.MountLabel; l != "" && (m.Type == "tmpfs" || m.Type == "devpts" || m.Type == "mqueue") {
		o.data = append(o.data, "context="+l)
	}
	source := m.Source
	if source == "" {
		source = m.Type
	}
	c.emitMount(m.Type, source, dest, o.flags.set|o.rec.set, o.propagation, o.data, flags)
	return nil
}

func (c *compiler) emitMount(fstype, source, dest string, attrs, prop uint64, data []string, flags uint64) {
	c.w.Begin(program.OpMount).Str(fstype).Str(source).Str(dest).Num(attrs).Num(prop).List(data).Num(flags)
}

func (c *compiler) bindMount(m *specs.Mount, dest string, o mountOptions) error {
	source := m.Source
	if source == "" {
		return invalid("bind mount on %s has no source", dest)
	}
	if !filepath.IsAbs(source) {
		if c.opts.Bundle == "" {
			return invalid("bind mount on %s: source %q is not absolute", dest, source)
		}
		source = filepath.Join(c.opts.Bundle, source)
	}
	flags := uint64(program.BindCreate)
	if o.rbind {
		flags |= program.BindRecursive
	}
	if slices.Contains(procFiles, filepath.Clean(dest)) {
		flags, dest = flags|program.BindProcFile, filepath.Clean(dest)
	}
	var uids, gids []string
	if o.idmap {
		um, gm := m.UIDMappings, m.GIDMappings
		if len(um)+len(gm) == 0 {
			um, gm = c.spec.Linux.UIDMappings, c.spec.Linux.GIDMappings
		}
		if len(um) == 0 || len(gm) == 0 {
			return invalid("mount %s: idmap needs uidMappings and gidMappings", dest)
		}
		uids, gids = idLines(um), idLines(gm)
	} else if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		uids, gids = idLines(m.UIDMappings), idLines(m.GIDMappings)
	}
	if len(uids) > 0 || c.newUser || c.joinsUser { // whose root may not get to the source
		shared := c.spec.Linux.RootfsPropagation == "shared" || c.spec.Linux.RootfsPropagation == "rshared"
		c.facts.Trees = append(c.facts.Trees, spawn.Tree{Source: source, Recursive: o.rbind, UIDMap: uids, GIDMap: gids, MapRecursive: o.ridmap, Shared: shared})
		flags, source = flags|program.BindTree, strconv.Itoa(3+c.opts.KeepFDs+len(c.facts.Trees)-1)
	}
	c.w.Begin(program.OpBind).Str(source).Str(dest).Num(flags).
		Num(o.flags.set).Num(o.flags.clear).Num(o.rec.set).Num(o.rec.clear).Num(o.propagation)
	return nil
}

// cgroupMount shows the container its own cgroup: the v2 hierarchy, or a folder of v1 hierarchies.
func (c *compiler) cgroupMount(dest string, o mountOptions) error {
	dirs := c.opts.CgroupDirs
	if len(dirs) == 1 && dirs[0].Name == "" {
		if c.made&unix.CLONE_NEWCGROUP != 0 {
			c.emitMount("cgroup2", "cgroup", dest, o.flags.set, o.propagation, nil, 0)
			return nil
		}
		c.bindPlain(dirs[0].Dir, dest, o.flags.set)
		return nil
	}
	c.emitMount("tmpfs", "tmpfs", dest, o.flags.set&^unix.MOUNT_ATTR_RDONLY, 0, []string{"mode=755"}, 0)
	for _, d := range dirs {
		c.bindPlain(d.Dir, dest+"/"+d.Name, o.flags.set)
		for _, link := range d.Link {
			c.w.Begin(program.OpSymlink).Str(d.Name).Str(dest + "/" + link)
		}
	}
	if o.flags.set&unix.MOUNT_ATTR_RDONLY != 0 {
		c.w.Begin(program.OpReadonly).Str(dest)
	}
	return nil
}

func (c *compiler) bindPlain(source, dest string, attrs uint64) {
	c.w.Begin(program.OpBind).Str(source).Str(dest).Num(program.BindCreate).
		Num(attrs).Num(0).Num(0).Num(0).Num(0)
}

var defaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Major: 1, Minor: 3}, {Path: "/dev/zero", Major: 1, Minor: 5}, {Path: "/dev/full", Major: 1, Minor: 7},
	{Path: "/dev/random", Major: 1, Minor: 8}, {Path: "/dev/urandom", Major: 1, Minor: 9}, {Path: "/dev/tty", Major: 5, Minor: 0},
}

// devices fills /dev, unless the configuration binds a whole /dev there.
func (c *compiler) devices() error {
	for _, m := range c.spec.Mounts {
		if filepath.Clean(m.Destination) == "/dev" && (m.Type == "bind" || parseMountOptions(m.Options).bind) {
			return nil
		}
	}
	given := map[string]bool{}
	for _, d := range c.spec.Linux.Devices {
		given[filepath.Clean(d.Path)] = true
	}
	for _, d := range defaultDevices {
		if !given[d.Path] {
			d.Type = "c"
			c.device(d, unix.S_IFCHR, 0o666)
		}
	}
	kinds := map[string]uint64{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}
	for _, d := range c.spec.Linux.Devices {
		kind, ok := kinds[d.Type]
		if !ok {
			return invalid("device %s: type %q is not known", d.Path, d.Type)
		}
		if filepath.Clean(d.Path) == "/dev/ptmx" {
			continue // the link below
		}
		mode := uint64(0o666)
		if d.FileMode != nil {
			mode = uint64(d.FileMode.Perm())
		}
		c.device(d, kind, mode)
	}
	for _, l := range [][2]string{{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"},
		{"/proc/self/fd/2", "/dev/stderr"}, {"pts/ptmx", "/dev/ptmx"}} {
		c.w.Begin(program.OpSymlink).Str(l[0]).Str(l[1])
	}
	return nil
}

func (c *compiler) device(d specs.LinuxDevice, kind, mode uint64) {
	var uid, gid, flags uint64
	if d.UID != nil {
		uid = uint64(*d.UID)
	}
	if d.GID != nil {
		gid = uint64(*d.GID)
	}
	if c.newUser {
		flags = program.MknodBind
	}
	c.w.Begin(program.OpMknod).Str(d.Path).Num(kind | mode).Num(unix.Mkdev(uint32(d.Major), uint32(d.Minor))).Num(uid).Num(gid).Num(flags)
}
