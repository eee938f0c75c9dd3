package hostmount

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestSharedMemory(t *testing.T) {
	dir := t.TempDir()
	m := New(filepath.Join(t.TempDir(), "points"))
	for range 2 { // the second finds it
		if err := m.SharedMemory(dir, 1<<20, ""); err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if size := st.Blocks * uint64(st.Bsize); st.Type != unix.TMPFS_MAGIC || size != 1<<20 {
		t.Errorf("type %x of %d bytes", st.Type, size)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if err := m.Unmount(dir); err != nil {
		t.Fatal(err)
	}
	if err := unix.Statfs(dir, &st); err != nil || st.Blocks*uint64(st.Bsize) == 1<<20 {
		t.Errorf("it is still mounted (%v)", err)
	}
	for _, p := range []string{dir, filepath.Join(dir, "nothing")} {
		if err := m.Unmount(p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestInside(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "volume/a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	volume := filepath.Join(dir, "volume")
	for name, to := range map[string]string{"volume/in": "a", "volume/out": "..", "volume/abs": "/etc"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	points := filepath.Join(dir, "points")
	m := New(points)
	if err := os.WriteFile(filepath.Join(volume, "a/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"a/b", "in/b", "a/../in", "a/file"} {
		p, done, err := m.Inside(volume, sub)
		if err != nil {
			t.Fatalf("%s: %v", sub, err)
		}
		want, _ := os.Stat(filepath.Join(volume, sub))
		if got, err := os.Stat(p); err != nil || !os.SameFile(got, want) {
			t.Errorf("%s is %s: %v", sub, p, err)
		}
		done()
		if _, err := os.Stat(p); err == nil {
			t.Errorf("%s is still open", sub)
		}
	}
	for _, sub := range []string{"out", "abs", "../volume", "/etc"} {
		if _, _, err := m.Inside(volume, sub); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", sub, err)
		}
	}
	if _, _, err := m.Inside(volume, "a/none"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if left, _ := os.ReadDir(points); len(left) != 0 {
		t.Errorf("mount points are left: %v", left)
	}
	if _, _, err := m.Inside(volume, "a"); err != nil { // and now the daemon crashes
		t.Fatal(err)
	}
	New(points)
	if left, _ := os.ReadDir(points); len(left) != 0 {
		t.Errorf("mount points of a former daemon are left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(volume, "a/file")); err != nil {
		t.Errorf("the volume lost its content: %v", err)
	}
}

func TestPropagates(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	m := New(t.TempDir())
	for _, c := range []struct {
		flag          uintptr
		shared, slave bool // whether it is good enough for
	}{
		{unix.MS_PRIVATE, false, false}, {unix.MS_SHARED, true, true},
	} {
		if err := unix.Mount("", dir, "", c.flag, ""); err != nil {
			t.Fatal(err)
		}
		for _, slave := range []bool{false, true} {
			want := c.shared || slave && c.slave
			if err := m.Propagates(below, slave); (err == nil) != want {
				t.Errorf("flag %x, slave suffices %v: %v", c.flag, slave, err)
			}
		}
	}
	_, shared, slave, err := propagation(strings.NewReader("12 1 0:1 / /x rw - ext4 a rw\n7 1 0:1 / /a\\040b rw master:3 - ext4 a rw\n"), 7)
	if err != nil || shared || !slave {
		t.Error(shared, slave, err)
	}
}
