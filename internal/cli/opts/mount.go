package opts

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/mount"
)

// Mounts collects --mount.
type Mounts struct{ List []mount.Mount }

// Type names the value in help texts.
func (m *Mounts) Type() string { return "mount" }

func (m *Mounts) String() string {
	var out []string
	for _, x := range m.List {
		out = append(out, fmt.Sprintf("%s %s %s", x.Type, x.Source, x.Target))
	}
	return strings.Join(out, ", ")
}

func csvFields(v string) ([]string, error) {
	r := csv.NewReader(strings.NewReader(v))
	return r.Read()
}

// Set reads one mount as comma-separated key=value words.
func (m *Mounts) Set(v string) error {
	fields, err := csvFields(strings.TrimSpace(v))
	if err != nil {
		return err
	}
	x := mount.Mount{Type: mount.TypeVolume}
	p := mountParser{m: &x, labels: map[string]string{}}
	for _, f := range fields {
		key, val, has := strings.Cut(f, "=")
		if k := strings.TrimSpace(key); k != key {
			return fmt.Errorf("invalid option '%s' in '%s': option should not have whitespace", key, f)
		}
		if v := strings.TrimSpace(val); v != val {
			return fmt.Errorf("invalid value for '%s' in '%s': value should not have whitespace", key, f)
		}
		if err := p.set(strings.ToLower(key), val, has, f); err != nil {
			return err
		}
	}
	if err := p.check(); err != nil {
		return err
	}
	m.List = append(m.List, x)
	return nil
}

type mountParser struct {
	m      *mount.Mount
	labels map[string]string
}

func (p *mountParser) bind() *mount.BindOptions {
	if p.m.BindOptions == nil {
		p.m.BindOptions = &mount.BindOptions{}
	}
	return p.m.BindOptions
}

func (p *mountParser) volume() *mount.VolumeOptions {
	if p.m.VolumeOptions == nil {
		p.m.VolumeOptions = &mount.VolumeOptions{Labels: map[string]string{}}
	}
	if p.m.VolumeOptions.DriverConfig == nil {
		p.m.VolumeOptions.DriverConfig = &mount.Driver{}
	}
	return p.m.VolumeOptions
}

func (p *mountParser) tmpfs() *mount.TmpfsOptions {
	if p.m.TmpfsOptions == nil {
		p.m.TmpfsOptions = &mount.TmpfsOptions{}
	}
	return p.m.TmpfsOptions
}

func (p *mountParser) set(key, val string, has bool, field string) (err error) {
	if !has {
		switch key {
		case "readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src":
			val = "true"
		default:
			return fmt.Errorf("invalid field '%s' must be a key=value pair", field)
		}
	}
	boolean := func(dst *bool) error {
		if *dst, err = strconv.ParseBool(val); err != nil {
			return fmt.Errorf("invalid value for '%s': invalid boolean value (%q): must be one of \"true\", \"1\", \"false\", or \"0\" (default \"true\")", key, val)
		}
		return nil
	}
	switch key {
	case "type":
		p.m.Type = mount.Type(strings.ToLower(val))
	case "source", "src":
		p.m.Source = val
		if val == "." || strings.HasPrefix(val, "."+string(filepath.Separator)) || strings.HasPrefix(val, ".."+string(filepath.Separator)) || val == ".." {
			if p.m.Source, err = filepath.Abs(val); err != nil {
				return err
			}
		}
	case "target", "dst", "destination":
		p.m.Target = val
	case "readonly", "ro":
		return boolean(&p.m.ReadOnly)
	case "consistency":
		p.m.Consistency = mount.Consistency(strings.ToLower(val))
	case "bind-propagation":
		p.bind().Propagation = mount.Propagation(strings.ToLower(val))
	case "bind-nonrecursive":
		return boolean(&p.bind().NonRecursive)
	case "bind-create-src":
		return boolean(&p.bind().CreateMountpoint)
	case "bind-recursive":
		return p.recursive(val)
	case "volume-subpath":
		p.volume().Subpath = val
	case "volume-nocopy":
		return boolean(&p.volume().NoCopy)
	case "volume-label":
		k, v, _ := strings.Cut(val, "=")
		p.volume().Labels[k] = v
	case "volume-driver":
		p.volume().DriverConfig.Name = val
	case "volume-opt":
		d := p.volume().DriverConfig
		if d.Options == nil {
			d.Options = map[string]string{}
		}
		k, v, _ := strings.Cut(val, "=")
		d.Options[k] = v
	case "image-subpath":
		p.m.ImageOptions = &mount.ImageOptions{Subpath: val}
	case "tmpfs-size":
		if p.tmpfs().SizeBytes, err = units.RAMInBytes(val); err != nil {
			return fmt.Errorf("invalid value for %s: %s", key, val)
		}
	case "tmpfs-mode":
		n, err := strconv.ParseUint(val, 8, 32)
		if err != nil {
			return fmt.Errorf("invalid value for %s: %s", key, val)
		}
		p.tmpfs().Mode = os.FileMode(n)
	default:
		return fmt.Errorf("unexpected key '%s' in '%s'", key, field)
	}
	return nil
}

func (p *mountParser) recursive(val string) error {
	switch val {
	case "enabled":
	case "disabled":
		p.bind().NonRecursive = true
	case "writable":
		p.bind().ReadOnlyNonRecursive = true
	case "readonly":
		p.bind().ReadOnlyForceRecursive = true
	default:
		return fmt.Errorf(`invalid value for %s: %s (must be "enabled", "disabled", "writable", or "readonly")`, "bind-recursive", val)
	}
	return nil
}

func (p *mountParser) check() error {
	m := p.m
	if m.Type == "" {
		return errors.New("type is required")
	}
	if m.VolumeOptions != nil && m.Type != mount.TypeVolume {
		return fmt.Errorf("cannot mix 'volume-*' options with mount type '%s'", m.Type)
	}
	if m.ImageOptions != nil && m.Type != mount.TypeImage {
		return fmt.Errorf("cannot mix 'image-*' options with mount type '%s'", m.Type)
	}
	if m.BindOptions != nil && m.Type != mount.TypeBind {
		return fmt.Errorf("cannot mix 'bind-*' options with mount type '%s'", m.Type)
	}
	if m.TmpfsOptions != nil && m.Type != mount.TypeTmpfs {
		return fmt.Errorf("cannot mix 'tmpfs-*' options with mount type '%s'", m.Type)
	}
	if m.Target == "" {
		return errors.New("target is required")
	}
	if b := m.BindOptions; b != nil {
		if b.ReadOnlyNonRecursive && !m.ReadOnly {
			return errors.New("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction")
		}
		if b.ReadOnlyForceRecursive {
			if !m.ReadOnly {
				return errors.New("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
			}
			if b.Propagation != mount.PropagationRPrivate {
				return errors.New("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")
			}
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
