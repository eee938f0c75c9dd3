package mounts

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

func TestParseBind(t *testing.T) {
	bind := func(mode string, rw bool, prop mount.Propagation) Point {
		return Point{MountPoint: container.MountPoint{Type: mount.TypeBind, Source: "/a", Destination: "/b", Mode: mode, RW: rw, Propagation: prop}}
	}
	for in, want := range map[string]Point{
		"/a:/b":           bind("", true, mount.PropagationRPrivate),
		"/a/:/b/:ro,z":    bind("ro,z", false, mount.PropagationRPrivate),
		"/a:/b:rw,rslave": bind("rw,rslave", true, mount.PropagationRSlave),
		"/b":              {MountPoint: container.MountPoint{Type: mount.TypeVolume, Destination: "/b", Driver: "local", RW: true}},
		"v1:/b:nocopy":    {MountPoint: container.MountPoint{Type: mount.TypeVolume, Name: "v1", Destination: "/b", Driver: "local", Mode: "nocopy", RW: true}, NoCopy: true},
	} {
		got, err := ParseBind(in)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", in, err, d)
		}
	}
	for _, in := range []string{"", ":/b", "/a:", "/a:b", "/a:/", "/a:/b:ro,rw", "/a:/b:nosuch", "/a:/b:ro:x", "v:/b:rslave", ".v:/b"} {
		if _, err := ParseBind(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestParseFrom(t *testing.T) {
	ref, mode, readOnly, err := ParseFrom("web:ro")
	if err != nil || ref != "web" || mode != "ro" || !readOnly {
		t.Error(ref, mode, readOnly, err)
	}
	for _, in := range []string{"", ":ro", "web:nosuch"} {
		if _, _, _, err := ParseFrom(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestTmpfsOptionsReplaceTheirOpposite(t *testing.T) {
	p, err := ParseTmpfs("/run", "exec,size=1m,ro,size=2m")
	if got := strings.Join(p.TmpfsOptions, ","); err != nil || p.RW || got != "nosuid,nodev,exec,ro,size=2m" {
		t.Errorf("%s, %v, %v", got, p.RW, err)
	}
	if _, err := ParseTmpfs("/run", "nosuch"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v", err)
	}
}

func TestOCI(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		edit func(*Point)
		able bool
		want string // options; empty: refused
	}{
		{"writable", func(p *Point) { p.RW = true }, true, "rbind,rprivate"},
		{"read-only", func(*Point) {}, true, "rbind,rro,rprivate"},
		{"read-only on an old kernel", func(*Point) {}, false, "rbind,ro,rprivate"},
		{"read-only, not below", func(p *Point) { p.NonRecursive = true }, true, "bind,ro,rprivate"},
		{"recursive or nothing", func(p *Point) { p.ReadOnlyForced = true }, false, ""},
		{"--mount without a source", func(p *Point) { p.Source, p.Spec = dir+"/none", true }, true, ""},
		{"-v without a source", func(p *Point) { p.Source, p.RW = dir+"/made", true }, true, "rbind,rprivate"},
	} {
		p := Point{MountPoint: container.MountPoint{Type: mount.TypeBind, Source: dir, Destination: "/b"}}
		c.edit(&p)
		got, err := p.OCI(c.able)
		if c.want == "" {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if opts := strings.Join(got.Options, ","); err != nil || opts != c.want {
			t.Errorf("%s: %s, %v", c.name, opts, err)
		}
	}
}
