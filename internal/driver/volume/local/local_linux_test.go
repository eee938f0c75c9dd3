package local

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"

	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made makes a volume as the service does, up to the point where all is committed.
func made(t *testing.T, d *Driver, name string) {
	t.Helper()
	keep, _, err := d.Create(t.Context(), name, nil)
	must(t, err)
	must(t, keep())
}

func mounted(t *testing.T, path string) bool {
	t.Helper()
	is, err := mountinfo.Mounted(path)
	must(t, err)
	return is
}

func TestPopulate(t *testing.T) {
	d, err := New(t.TempDir())
	must(t, err)
	low, up, host := t.TempDir(), t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(host, "secret"), []byte("host"), 0o600))
	must(t, os.MkdirAll(filepath.Join(low, "data/sub"), 0o750))
	must(t, os.WriteFile(filepath.Join(low, "data/a"), []byte("lower"), 0o640))
	must(t, os.Link(filepath.Join(low, "data/a"), filepath.Join(low, "data/b")))
	must(t, os.Chown(filepath.Join(low, "data/a"), 12, 34))
	must(t, os.MkdirAll(filepath.Join(up, "data"), 0o700))
	must(t, syscall.Chmod(filepath.Join(up, "data"), 0o1777))
	must(t, os.WriteFile(filepath.Join(up, "data/c"), []byte("upper"), 0o600))
	must(t, os.Symlink(host, filepath.Join(up, "out"))) // leads out of the image
	root := spec.Rootfs{Lower: []string{up, low}}
	ctx := t.Context()

	made(t, d, "vol")
	must(t, d.Populate(ctx, "vol", root, "/data"))
	at := d.Path("vol")
	var a, b, own syscall.Stat_t
	must(t, syscall.Stat(filepath.Join(at, "a"), &a))
	must(t, syscall.Stat(filepath.Join(at, "b"), &b))
	must(t, syscall.Stat(at, &own))
	if a.Ino != b.Ino || a.Uid != 12 || a.Gid != 34 || a.Mode&0o7777 != 0o640 {
		t.Errorf("owner, mode or hard link lost: %+v", a)
	}
	if own.Mode&0o7777 != 0o1777 {
		t.Errorf("the folder's own mode is %o", own.Mode&0o7777)
	}
	if _, err := os.Stat(filepath.Join(at, "c")); err != nil {
		t.Error("the upper layer's file is missing:", err)
	}
	// A second time changes nothing: the volume is not empty.
	must(t, os.Remove(filepath.Join(at, "c")))
	must(t, d.Populate(ctx, "vol", root, "/data"))
	if _, err := os.Stat(filepath.Join(at, "c")); err == nil {
		t.Error("a volume with content was filled again")
	}
	// A link out of the image leads nowhere.
	made(t, d, "evil")
	_ = d.Populate(ctx, "evil", root, "/out")
	if _, err := os.Stat(filepath.Join(d.Path("evil"), "secret")); err == nil {
		t.Error("a file of the host was copied into a volume")
	}
	if size, err := d.Size(ctx, "vol"); err != nil || size != int64(len("lower")) {
		t.Errorf("size %d, %v", size, err)
	}
}

func TestMountOptions(t *testing.T) {
	d, err := New(t.TempDir())
	must(t, err)
	ctx := t.Context()
	opts := map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,nosuid"}
	must(t, d.Validate(opts))
	made(t, d, "vol")
	must(t, d.Mount(ctx, "vol", opts))
	must(t, d.Mount(ctx, "vol", opts)) // does nothing
	if !mounted(t, d.Path("vol")) {
		t.Error("nothing is mounted")
	}
	if _, _, err := d.Remove(ctx, "vol"); !errdefs.IsConflict(err) {
		t.Error("a mounted volume was deleted")
	}
	must(t, d.Unmount(ctx, "vol"))
	if mounted(t, d.Path("vol")) {
		t.Error("it is still mounted")
	}
	src := t.TempDir()
	bindOpts := map[string]string{"type": "none", "device": src, "o": "bind,ro"}
	must(t, d.Validate(bindOpts))
	must(t, d.Mount(ctx, "vol", bindOpts))
	if err := os.WriteFile(filepath.Join(d.Path("vol"), "x"), nil, 0o600); err == nil {
		t.Error("a read-only bind mount could be written to")
	}
	must(t, d.Unmount(ctx, "vol"))
	must(t, d.Unmount(ctx, "vol"))
	for _, bad := range []map[string]string{{"type": "tmpfs"}, {"nosuch": "x"}, {"size": "1m"}, {"device": "x"}, {"type": ""}} {
		if d.Validate(bad) == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}
