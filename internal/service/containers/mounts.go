package containers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/spec"
)

var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// mountPlanner turns -v, --mount, --tmpfs, --volumes-from and the image's VOLUMEs
// into mount points, making volumes on the way.
type mountPlanner struct {
	*core
	rec  *Container
	root spec.Rootfs
	undo *undo.Stack
	have map[string]MountPoint // by destination
}

// anonymousLabel is what tells an anonymous volume from others, as Docker has it.
const anonymousLabel = "com.docker.volume.anonymous"

// plan gives all mount points in order of destination. Later sources override earlier
// ones as in Docker: volumes-from, then -v, then --mount; an image's VOLUME only fills a gap.
func (p *mountPlanner) plan(ctx context.Context) ([]MountPoint, error) {
	p.have = map[string]MountPoint{}
	hc := p.rec.HostConfig
	for _, f := range hc.VolumesFrom {
		if err := p.from(f); err != nil {
			return nil, err
		}
	}
	own := map[string]bool{}
	add := func(m MountPoint) error {
		if own[m.Destination] {
			return classed.Invalid("Duplicate mount point: %s", m.Destination)
		}
		own[m.Destination] = true
		p.have[m.Destination] = m
		return nil
	}
	for _, b := range hc.Binds {
		m, err := parseBind(b)
		if err == nil {
			err = add(m)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, cfg := range hc.Mounts {
		m, err := fromMount(cfg)
		if err == nil {
			err = add(m)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, dst := range slices.Sorted(maps.Keys(hc.Tmpfs)) {
		m, err := parseTmpfs(dst, hc.Tmpfs[dst])
		if err == nil {
			err = add(m)
		}
		if err != nil {
			return nil, err
		}
	}
	for v := range p.rec.Config.Volumes {
		dst := path.Clean("/" + v)
		if _, taken := p.have[dst]; !taken && dst != "/" {
			p.have[dst] = MountPoint{MountPoint: container.MountPoint{Type: mount.TypeVolume, Destination: dst, RW: true}, Anonymous: true, FromImage: true}
		}
	}
	out := make([]MountPoint, 0, len(p.have))
	for _, dst := range slices.Sorted(maps.Keys(p.have)) {
		m := p.have[dst]
		if m.Type == mount.TypeVolume {
			if err := p.volume(ctx, &m); err != nil {
				return nil, err
			}
		}
		out = append(out, m)
	}
	return out, nil
}

// volume makes or finds the volume of a mount point and fills a new one from the image.
func (p *mountPlanner) volume(ctx context.Context, m *MountPoint) error {
	var opts, labels map[string]string
	for _, cfg := range p.rec.HostConfig.Mounts {
		if path.Clean(cfg.Target) == m.Destination && cfg.VolumeOptions != nil {
			labels = cfg.VolumeOptions.Labels
			if d := cfg.VolumeOptions.DriverConfig; d != nil {
				opts = d.Options
			}
		}
	}
	anonymous := m.Name == ""
	if m.Driver == "" {
		m.Driver = "local"
	}
	name := m.Name
	if anonymous { // named here, so that it can be noted before it is there
		name = newID()
		labels = maps.Clone(labels)
		if labels == nil {
			labels = map[string]string{}
		}
		labels[anonymousLabel] = ""
		if err := p.unfinished(p.rec.ID, name); err != nil {
			return err
		}
		if p.rec.Volatile {
			if err := p.own(p.rec.ID, name); err != nil {
				return fmt.Errorf("noting an anonymous volume: %w", err)
			}
			p.undo.Push("note of the volume", func(context.Context) error { return os.Remove(filepath.Join(p.ownedDir(), name)) })
		}
	}
	v, err := p.Volumes.Ensure(ctx, name, m.Driver, opts, labels)
	if errdefs.IsNotFound(err) { // a driver that is not there; clients would look for the image
		return classed.Invalid("%v", err)
	}
	if err != nil {
		return err
	}
	m.Name, m.Source, m.Driver = v.Name, v.Mountpoint, v.Driver
	if m.Mode == "" && m.Driver == "local" && !m.FromImage {
		m.Mode = "z" // what inspect has always shown
	}
	m.Anonymous = m.Anonymous || anonymous
	if anonymous {
		p.undo.Push("anonymous volume", func(ctx context.Context) error { return p.Volumes.Remove(ctx, v.Name, true) })
	}
	if _, err := p.Volumes.Acquire(ctx, v.Name, p.rec.ID); err != nil {
		return err
	}
	p.undo.Push("hold on volume", func(ctx context.Context) error { return p.Volumes.Release(ctx, v.Name, p.rec.ID) })
	if m.NoCopy {
		return nil
	}
	return p.Volumes.Populate(ctx, v.Name, p.root, m.Destination)
}

// from takes over the mount points of another container (--volumes-from name[:ro|rw|…]).
func (p *mountPlanner) from(arg string) error {
	ref, mode, _ := strings.Cut(arg, ":")
	if ref == "" {
		return classed.Invalid("malformed volumes-from specification: %q", arg)
	}
	flags, err := parseMode(mode, false)
	if err != nil {
		return classed.Invalid("invalid mode: %s", mode)
	}
	e, err := p.reg.get(ref)
	if err != nil { // not of the class "not found": clients would look for the image
		return classed.Invalid("%v", err)
	}
	for _, m := range e.snapshot().Mounts {
		if m.Type == mount.TypeTmpfs {
			continue
		}
		m.Anonymous, m.FromImage, m.NoCopy = false, false, true
		m.RW = m.RW && !flags.ro
		m.Mode = mode
		p.have[m.Destination] = m
	}
	return nil
}

type modeFlags struct {
	ro, nocopy, nonrec bool
	propagation        mount.Propagation
}

// parseMode reads the third part of -v ("ro,z,rslave,nocopy").
func parseMode(mode string, volume bool) (modeFlags, error) {
	var f modeFlags
	var rw, labelled, copied bool
	if mode == "" {
		return f, nil
	}
	for _, o := range strings.Split(mode, ",") {
		switch {
		case (o == "ro" || o == "rw") && !rw:
			rw, f.ro = true, o == "ro"
		case (o == "z" || o == "Z") && !labelled:
			labelled = true
		case o == "nocopy" && !copied:
			copied, f.nocopy = true, true
		case slices.Contains(mount.Propagations, mount.Propagation(o)) && f.propagation == "" && !volume:
			f.propagation = mount.Propagation(o)
		case o == "bind-nonrecursive", o == "consistent", o == "cached", o == "delegated":
			f.nonrec = f.nonrec || o == "bind-nonrecursive"
		default:
			return f, errors.New("invalid mode")
		}
	}
	return f, nil
}

// parseBind reads one -v: "/host:/dst[:mode]", "name:/dst[:mode]" or "/dst".
func parseBind(s string) (MountPoint, error) {
	var m MountPoint
	parts := strings.Split(s, ":")
	bad := func() (MountPoint, error) { return m, classed.Invalid("invalid volume specification: '%s'", s) }
	var src, dst, mode string
	switch len(parts) {
	case 1:
		dst = parts[0]
	case 2:
		src, dst = parts[0], parts[1]
	case 3:
		src, dst, mode = parts[0], parts[1], parts[2]
	default:
		return bad()
	}
	if dst == "" || len(parts) > 1 && src == "" {
		return bad()
	}
	isPath := strings.HasPrefix(src, "/")
	flags, err := parseMode(mode, !isPath)
	if err != nil {
		return m, classed.Invalid("invalid mode: %s", mode)
	}
	if !strings.HasPrefix(dst, "/") {
		return m, classed.Invalid("invalid volume specification: '%s': invalid mount config for type \"%s\": invalid mount path: '%s' mount path must be absolute", s, kindOf(isPath), dst)
	}
	m.Destination = path.Clean(dst)
	if m.Destination == "/" {
		return m, classed.Invalid("invalid volume specification: '%s': invalid mount config for type \"%s\": invalid specification: destination can't be '/'", s, kindOf(isPath))
	}
	m.Mode, m.RW, m.NoCopy, m.NonRecursive = mode, !flags.ro, flags.nocopy, flags.nonrec
	if isPath {
		m.Type, m.Source, m.Propagation = mount.TypeBind, filepath.Clean(src), flags.propagation
		if m.Propagation == "" {
			m.Propagation = mount.PropagationRPrivate
		}
		return m, nil
	}
	m.Type, m.Name, m.Driver = mount.TypeVolume, src, "local"
	if src != "" && !volumeName.MatchString(src) {
		return m, classed.Invalid("create %s: %q includes invalid characters for a local volume name, only %q are allowed. If you intended to pass a host directory, use absolute path",
			src, src, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
	}
	return m, nil
}

func kindOf(isPath bool) string {
	if isPath {
		return "bind"
	}
	return "volume"
}

// fromMount reads one --mount.
func fromMount(cfg mount.Mount) (MountPoint, error) {
	m := MountPoint{Spec: true}
	m.Type, m.Source, m.RW = cfg.Type, cfg.Source, !cfg.ReadOnly
	if cfg.Target == "" {
		return m, mountErr(cfg, errEmptyTarget)
	}
	if !path.IsAbs(cfg.Target) {
		return m, mountErr(cfg, fmt.Errorf("invalid mount path: '%s' mount path must be absolute", cfg.Target))
	}
	m.Destination = path.Clean(cfg.Target)
	if m.Destination == "/" {
		return m, mountErr(cfg, errors.New("invalid specification: destination can't be '/'"))
	}
	switch cfg.Type {
	case mount.TypeBind:
		return m, bindMount(cfg, &m)
	case mount.TypeVolume:
		return m, volumeMount(cfg, &m)
	case mount.TypeTmpfs:
		return m, tmpfsMount(cfg, &m)
	case mount.TypeImage, mount.TypeCluster:
		return m, classed.Unsupported(fmt.Sprintf("--mount type=%s", cfg.Type))
	}
	return m, mountErr(cfg, errors.New("mount type unknown"))
}

func bindMount(cfg mount.Mount, m *MountPoint) error {
	if cfg.Source == "" {
		return mountErr(cfg, errors.New("field Source must not be empty"))
	}
	if cfg.VolumeOptions != nil || cfg.TmpfsOptions != nil {
		return mountErr(cfg, errors.New("exactly one type of mount options is expected"))
	}
	if !filepath.IsAbs(cfg.Source) {
		return mountErr(cfg, fmt.Errorf("invalid mount path: '%s' mount path must be absolute", cfg.Source))
	}
	m.Source, m.Propagation = filepath.Clean(cfg.Source), mount.PropagationRPrivate
	if o := cfg.BindOptions; o != nil {
		if o.Propagation != "" {
			if !slices.Contains(mount.Propagations, o.Propagation) {
				return mountErr(cfg, fmt.Errorf("invalid propagation mode: %s", o.Propagation))
			}
			m.Propagation = o.Propagation
		}
		if o.ReadOnlyForceRecursive && (!cfg.ReadOnly || o.NonRecursive || o.ReadOnlyNonRecursive) {
			return mountErr(cfg, errors.New("ReadOnlyForceRecursive needs a recursive read-only mount"))
		}
		m.NonRecursive, m.ReadOnlyNonRecursive, m.ReadOnlyForced = o.NonRecursive, o.ReadOnlyNonRecursive, o.ReadOnlyForceRecursive
	}
	if _, err := os.Stat(m.Source); err != nil {
		if !os.IsNotExist(err) {
			return mountErr(cfg, err)
		}
		if cfg.BindOptions == nil || !cfg.BindOptions.CreateMountpoint {
			return mountErr(cfg, fmt.Errorf("bind source path does not exist: %s", m.Source))
		}
		m.Spec = false // start makes it, as for -v
	}
	return nil
}

func volumeMount(cfg mount.Mount, m *MountPoint) error {
	if cfg.BindOptions != nil || cfg.TmpfsOptions != nil {
		return mountErr(cfg, errors.New("exactly one type of mount options is expected"))
	}
	m.Name, m.Source, m.Driver, m.Mode = cfg.Source, "", "local", "z"
	if m.Name != "" && !volumeName.MatchString(m.Name) {
		return mountErr(cfg, fmt.Errorf("%q includes invalid characters for a local volume name, only %q are allowed", m.Name, "[a-zA-Z0-9][a-zA-Z0-9_.-]"))
	}
	if o := cfg.VolumeOptions; o != nil {
		if o.Subpath != "" && !filepath.IsLocal(o.Subpath) {
			return mountErr(cfg, errors.New("subpath must be a relative path within the volume"))
		}
		m.NoCopy, m.Subpath = o.NoCopy, o.Subpath
		if o.DriverConfig != nil && o.DriverConfig.Name != "" {
			m.Driver = o.DriverConfig.Name
		}
	}
	if m.Name == "" && cfg.ReadOnly {
		return mountErr(cfg, errors.New("must not set ReadOnly mode when using anonymous volumes"))
	}
	return nil
}

func tmpfsMount(cfg mount.Mount, m *MountPoint) error {
	if cfg.Source != "" {
		return mountErr(cfg, errors.New("field Source must not be specified"))
	}
	if cfg.BindOptions != nil || cfg.VolumeOptions != nil {
		return mountErr(cfg, errors.New("exactly one type of mount options is expected"))
	}
	opts := []string{"noexec", "nosuid", "nodev"}
	if cfg.ReadOnly {
		opts = append(opts, "ro")
	}
	if o := cfg.TmpfsOptions; o != nil {
		if o.SizeBytes > 0 {
			opts = append(opts, "size="+strconv.FormatInt(o.SizeBytes, 10))
		}
		if o.Mode != 0 {
			opts = append(opts, fmt.Sprintf("mode=%o", o.Mode.Perm()|o.Mode&0o7000))
		}
		for _, kv := range o.Options {
			if len(kv) < 1 || len(kv) > 2 {
				return mountErr(cfg, errors.New("invalid option array length"))
			}
			opt := strings.Join(kv, "=")
			if !tmpfsOption(opt) {
				return mountErr(cfg, fmt.Errorf("invalid option: %q", opt))
			}
			opts = replaceFlag(opts, opt)
		}
	}
	m.TmpfsOptions = opts
	return nil
}

// parseTmpfs reads one --tmpfs.
func parseTmpfs(dst, opts string) (MountPoint, error) {
	m := MountPoint{TmpfsOptions: []string{"noexec", "nosuid", "nodev"}}
	if !path.IsAbs(dst) {
		return m, classed.Invalid("invalid mount path: '%s' mount path must be absolute", dst)
	}
	m.Type, m.Destination, m.RW, m.Mode = mount.TypeTmpfs, path.Clean(dst), true, opts
	if m.Destination == "/" {
		return m, classed.Invalid("invalid specification: destination can't be '/'")
	}
	for _, o := range strings.Split(opts, ",") {
		if o == "" {
			continue
		}
		if !tmpfsOption(o) {
			return m, classed.Invalid("invalid tmpfs option %q", o)
		}
		m.TmpfsOptions = replaceFlag(m.TmpfsOptions, o)
		m.RW = m.RW && o != "ro"
	}
	return m, nil
}

func tmpfsOption(o string) bool {
	k, _, valued := strings.Cut(o, "=")
	if valued {
		return slices.Contains([]string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"}, k)
	}
	return slices.Contains([]string{"exec", "noexec", "suid", "nosuid", "dev", "nodev", "ro", "rw", "sync", "async", "dirsync", "atime", "noatime",
		"diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "remount",
		"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"}, k)
}

// replaceFlag adds a mount option in place of its opposite or former value.
func replaceFlag(opts []string, o string) []string {
	k, _, valued := strings.Cut(o, "=")
	return append(slices.DeleteFunc(opts, func(have string) bool {
		if valued {
			return strings.HasPrefix(have, k+"=")
		}
		return have == "no"+o || "no"+have == o || have == o
	}), o)
}
