package layers

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/service/containers"
	im "github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

func spareDirs(s *Store) []string {
	dirs, _ := filepath.Glob(filepath.Join(s.dir, "spare", "*"))
	return dirs
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// A layer that nothing was written to serves the next container; one with anything in it never does.
func TestOnlyPristineLayersAreUsedAgain(t *testing.T) {
	s := store(t, t.TempDir(), DriverOverlay)
	img := unpack(t, s, im.Layer{im.Dir("etc"), im.File("etc/x", "x")})
	dir := func(id string) string { return filepath.Join(s.dir, "containers", id) }
	cases := map[string]func(upper string) error{
		"pristine":  func(string) error { return nil },
		"mode":      func(u string) error { return os.Chmod(u, 0o700) },      // put right
		"owner":     func(u string) error { return os.Chown(u, 1000, 1000) }, // put right
		"time":      func(u string) error { return os.Chtimes(u, time.Unix(1, 0), time.Unix(1, 0)) },
		"flags":     noAtime,
		"file":      func(u string) error { return os.WriteFile(filepath.Join(u, "secret"), []byte("s"), 0o600) },
		"whiteout":  func(u string) error { return unix.Mknod(filepath.Join(u, "etc"), unix.S_IFCHR, 0) },
		"attribute": func(u string) error { return unix.Setxattr(u, "trusted.overlay.opaque", []byte("y"), 0) },
		"viewed":    func(string) error { _, err := s.Rootfs(t.Context(), "viewed"); return err },
	}
	again := map[string]bool{"pristine": true, "mode": true, "owner": true, "time": true}
	for name, change := range cases {
		if _, err := s.Create(t.Context(), name, img, containers.LayerOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Rootfs(t.Context(), name); err != nil { // its start
			t.Fatal(err)
		}
		upper := filepath.Join(dir(name), "upper")
		if err := change(upper); err != nil {
			t.Fatal(err)
		}
		was := inode(t, upper)
		if err := s.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		found := false
		for end := time.Now().Add(2 * time.Second); !found && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			for _, d := range spareDirs(s) {
				var st unix.Stat_t
				if unix.Stat(filepath.Join(d, "upper"), &st) == nil && st.Ino == was {
					found = true
					if st.Mode&0o7777 != 0o755 || st.Uid != 0 || st.Gid != 0 || st.Mtim.Sec < 2 {
						t.Errorf("%s: mode %o, owner %d:%d, changed %d", name, st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
					}
				}
			}
			if entries, _ := os.ReadDir(filepath.Join(s.dir, "trash")); !again[name] && len(entries) == 0 {
				break
			}
		}
		if found != again[name] {
			t.Errorf("%s: used again: %v", name, found)
		}
	}
}

// noAtime is chattr +A (FS_NOATIME_FL), which a container may do to its root.
func noAtime(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|0x80))
}
