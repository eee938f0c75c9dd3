// Package mounts reads what users say of mounts, -v, --mount, --tmpfs and
// --volumes-from, and turns mount points into mounts of the runtime.
package mounts

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

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

// ParseBind reads one -v: "/host:/dst[:mode]", "name:/dst[:mode]" or "/dst".
func ParseBind(s string) (Point, error) {
	var m Point
	parts := strings.Split(s, ":")
	bad := func() (Point, error) { return m, classed.Invalid("invalid volume specification: '%s'", s) }
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

// ParseFrom reads one --volumes-from: "container[:mode]".
func ParseFrom(s string) (ref, mode string, readOnly bool, err error) {
	ref, mode, _ = strings.Cut(s, ":")
	if ref == "" {
		return "", "", false, classed.Invalid("malformed volumes-from specification: %q", s)
	}
	flags, err := parseMode(mode, false)
	if err != nil {
		return "", "", false, classed.Invalid("invalid mode: %s", mode)
	}
	return ref, mode, flags.ro, nil
}

// Parse reads one --mount.
func Parse(cfg mount.Mount) (Point, error) {
	m := Point{Spec: true}
	m.Type, m.Source, m.RW = cfg.Type, cfg.Source, !cfg.ReadOnly
	if cfg.Target == "" {
		return m, mountErr(cfg, errors.New("field Target must not be empty"))
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

func bindMount(cfg mount.Mount, m *Point) error {
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

func volumeMount(cfg mount.Mount, m *Point) error {
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

func tmpfsMount(cfg mount.Mount, m *Point) error {
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

// ParseTmpfs reads one --tmpfs.
func ParseTmpfs(dst, opts string) (Point, error) {
	m := Point{TmpfsOptions: []string{"noexec", "nosuid", "nodev"}}
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

// mountErr is Docker's frame around what is wrong with a --mount.
func mountErr(m mount.Mount, err error) error {
	return classed.Invalid("invalid mount config for type %q: %s", m.Type, err)
}
