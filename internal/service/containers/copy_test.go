package containers

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/service/containers/mounts"
	"github.com/gantry-engine/gantry/internal/spec"
)

// fakeViews shows files; it complains if a view is left open or used after Close.
type fakeViews struct {
	t      *testing.T
	files  map[string]string // a value that begins with "->" is a link
	mounts []specs.Mount
	pids   []int
	gone   bool // the process has ended
	fail   error
	open   int
	in     TarInOptions
}

func (f *fakeViews) Open(_ context.Context, _ spec.Rootfs, mounts []specs.Mount, pid int) (View, error) {
	f.pids = append(f.pids, pid)
	if pid != 0 && f.gone {
		return nil, errdefs.ErrNotFound
	}
	if f.fail != nil {
		return nil, f.fail
	}
	f.mounts = mounts
	f.open++
	return &fakeView{f, false}, nil
}

type fakeView struct {
	*fakeViews
	closed bool
}

func (v *fakeView) Close() error {
	if v.closed {
		v.t.Error("a view is closed twice")
	}
	v.closed = true
	v.open--
	return nil
}

func (v *fakeView) Stat(p string) (PathStat, error) {
	if v.closed {
		v.t.Error("a closed view is used")
	}
	c, ok := v.files[p]
	if !ok {
		return PathStat{}, fmt.Errorf("nothing there: %w", errdefs.ErrNotFound)
	}
	st := PathStat{Name: p, Size: int64(len(c))}
	st.LinkTarget, _ = strings.CutPrefix(c, "->")
	if st.LinkTarget == c {
		st.LinkTarget = ""
	}
	return st, nil
}

func (v *fakeView) TarOut(_ context.Context, p, base string, w io.Writer) error {
	if v.closed {
		v.t.Error("a closed view is used")
	}
	tw := tar.NewWriter(w)
	c := v.files[p]
	if strings.HasSuffix(base, "/") {
		return errors.Join(tw.WriteHeader(&tar.Header{Name: base, Typeflag: tar.TypeDir}), tw.Close())
	}
	if err := tw.WriteHeader(&tar.Header{Name: base, Typeflag: tar.TypeReg, Size: int64(len(c))}); err != nil {
		return err
	}
	if _, err := io.WriteString(tw, c); err != nil {
		return err
	}
	return tw.Close()
}

func (v *fakeView) TarIn(_ context.Context, _ string, _ io.Reader, o TarInOptions) error {
	v.in = o
	return v.fail
}

// copying makes a service with a container that has a volume, a read-only one and a tmpfs.
func copying(t *testing.T) (*world, *Service, *fakeViews, string) {
	t.Helper()
	w := newWorld(t)
	s := w.service()
	v := &fakeViews{t: t, files: map[string]string{"/": "", "/f": "hello"}}
	s.core.Views = v
	t.Cleanup(func() {
		if v.open != 0 {
			t.Errorf("%d views are left open", v.open)
		}
	})
	id := create(t, s, func(r *CreateRequest) {
		r.HostConfig.Mounts = []mount.Mount{{Type: mount.TypeVolume, Source: "vol", Target: "/v"}, {Type: mount.TypeVolume, Source: "ro", Target: "/v/ro", ReadOnly: true},
			{Type: mount.TypeTmpfs, Target: "/t"}}
	})
	return w, s, v, id
}

func TestCopyOut(t *testing.T) {
	_, s, v, id := copying(t)
	for p, base := range map[string]string{"/f": "f", "f": "f", "/f/.": ".", "/": "/", "/.": ".", ".": "."} {
		v.files[p] = "hello"
		rc, _, err := s.Archive(ctx, id, p)
		if err != nil {
			t.Fatal(err)
		}
		h, err := tar.NewReader(rc).Next()
		if err != nil || h.Name != base {
			t.Errorf("%s: the archive begins with %v (%v), want %s", p, h, err, base)
		}
		if err := rc.Close(); err != nil { // also in the middle
			t.Error(err)
		}
	}
	if _, _, err := s.Archive(ctx, id, "/no"); !errdefs.IsNotFound(err) || err.Error() != "Could not find the file /no in container "+id {
		t.Error(err)
	}
	if _, err := s.StatPath(ctx, id, "/no"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	rc, err := s.Export(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, rc); err != nil {
		t.Error(err)
	}
	if err := rc.Close(); err != nil {
		t.Error(err)
	}
	edit(t, s, id, func(c *Container) { c.State.Status = Dead })
	if _, err := s.StatPath(ctx, id, "/f"); !errdefs.IsConflict(err) {
		t.Errorf("of a dead one: %v", err)
	}
}

func TestStoppedTreeHasItsMounts(t *testing.T) {
	_, s, v, id := copying(t)
	edit(t, s, id, func(c *Container) {
		hc := *c.HostConfig
		hc.ReadonlyRootfs = true
		c.HostConfig = &hc
		c.Mounts = append([]mounts.Point{}, c.Mounts...)
		for i := range c.Mounts {
			if c.Mounts[i].Name == "vol" {
				c.Mounts[i].Subpath = "a/../b"
			}
		}
	})
	if _, err := s.StatPath(ctx, id, "/f"); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range v.mounts {
		got[m.Destination] = m.Source + " " + strings.Join(m.Options, ",")
	}
	want := map[string]string{"/": " ro", "/v": "/volumes/vol rbind,subpath=a/../b", "/v/ro": "/volumes/ro rbind,ro"}
	if !maps.Equal(got, want) {
		t.Errorf("mounts %v, want %v", got, want)
	}
	// A running one is seen through its process; one that ended meanwhile is a stopped one.
	edit(t, s, id, func(c *Container) { c.State.Status, c.State.Pid = Running, 42 })
	v.pids = nil
	if _, err := s.StatPath(ctx, id, "/f"); err != nil {
		t.Fatal(err)
	}
	v.gone = true
	if _, err := s.StatPath(ctx, id, "/f"); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(v.pids) != "[42 42 0]" {
		t.Errorf("pids %v", v.pids)
	}
}

// countingVolumes counts holds, as the service of volumes does.
type countingVolumes struct {
	fakeVolumes
	holds map[string]int
	fail  string
}

func (v countingVolumes) Acquire(_ context.Context, name, _ string) (spec.Volume, error) {
	if name == v.fail {
		return spec.Volume{}, errors.New("the server is down")
	}
	v.holds[name]++
	return spec.Volume{Name: name}, nil
}

func (v countingVolumes) Release(_ context.Context, name, _ string) error {
	v.holds[name]--
	return nil
}

func TestVolumesAreHeldWhileCopying(t *testing.T) {
	w, s, v, id := copying(t)
	c := countingVolumes{fakeVolumes{w}, map[string]int{}, ""}
	s.core.Volumes = c
	rc, _, err := s.Archive(ctx, id, "/f")
	if err != nil {
		t.Fatal(err)
	}
	if c.holds["vol"] != 1 || c.holds["ro"] != 1 {
		t.Errorf("while copying: %v", c.holds)
	}
	_ = rc.Close()
	v.fail = errors.New("no mount")
	if _, err := s.StatPath(ctx, id, "/f"); err == nil {
		t.Error("no error")
	}
	v.fail = nil
	c.fail = "ro"
	s.core.Volumes = c
	if _, err := s.StatPath(ctx, id, "/f"); err == nil || !strings.Contains(err.Error(), "the server is down") {
		t.Error(err)
	}
	for name, n := range c.holds {
		if n != 0 {
			t.Errorf("%s is held %d times too much", name, n)
		}
	}
}

func TestCopyInWithTheUsersOwner(t *testing.T) {
	_, s, v, id := copying(t)
	v.files["/etc/passwd"] = "->/real/passwd"
	v.files["/real/passwd"] = "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n"
	v.files["/etc/group"] = "staff:x:50:\n"
	for user, want := range map[string]string{"": "-", "web": "33:34", "web:staff": "33:50", "7": "7:0", "7:8": "7:8", "33": "33:34", "nosuch": "error", "web:nosuch": "error"} {
		edit(t, s, id, func(c *Container) {
			cfg := *c.Config
			cfg.User = user
			c.Config = &cfg
		})
		v.in = TarInOptions{}
		err := s.Extract(ctx, id, "/f", bytes.NewReader(nil), TarInOptions{CopyUIDGID: true})
		got := fmt.Sprintf("%d:%d", v.in.UID, v.in.GID)
		switch {
		case err != nil && errdefs.IsInvalidArgument(err):
			got = "error"
		case err != nil:
			t.Errorf("%s: %v", user, err)
		case !v.in.CopyUIDGID:
			got = "-"
		}
		if got != want {
			t.Errorf("user %q: %s, want %s", user, got, want)
		}
	}
	edit(t, s, id, func(c *Container) {
		cfg := *c.Config
		cfg.User = "web"
		c.Config = &cfg
	})
	v.files["/etc/group"] = strings.Repeat("x", maxAccounts+1)
	if err := s.Extract(ctx, id, "/f", bytes.NewReader(nil), TarInOptions{CopyUIDGID: true}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a huge file: %v", err)
	}
	if err := s.Extract(ctx, id, "/no", bytes.NewReader(nil), TarInOptions{}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}

func TestChanges(t *testing.T) {
	_, s, _, id := copying(t)
	list, err := s.Changes(ctx, id)
	if err != nil || list == nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
	if _, err := s.Changes(ctx, "nosuch"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	for _, c := range []struct{ have, want string }{
		{"C /etc,A /etc/hosts,A /etc/hostname,A /etc/resolv.conf", ""},
		{"A /etc,A /etc/hosts,A /dev,A /proc,A /sys", ""},
		{"C /etc,A /etc/hosts,A /etc/new", "C /etc,A /etc/new"},
		{"C /etc,C /etc/hosts", "C /etc,C /etc/hosts"},
		{"C /etc", "C /etc"},
		{"C /etc,A /etc/hosts.d,A /etcetera,D /etc/hostname", "C /etc,A /etc/hosts.d,A /etcetera,D /etc/hostname"},
		{"A /dev,A /dev/pts,A /dev/shm,C /tmp,A /tmp/etc/hosts", "C /tmp,A /tmp/etc/hosts"},
	} {
		var in []Change
		for f := range strings.FieldsFuncSeq(c.have, func(r rune) bool { return r == ',' }) {
			in = append(in, Change{Path: f[2:], Kind: ChangeKind(strings.IndexByte("CAD", f[0]))})
		}
		var out []string
		for _, ch := range withoutStubs(in) {
			out = append(out, "CAD"[ch.Kind:ch.Kind+1]+" "+ch.Path)
		}
		if got := strings.Join(out, ","); got != c.want {
			t.Errorf("%s: %s, want %s", c.have, got, c.want)
		}
	}
}
