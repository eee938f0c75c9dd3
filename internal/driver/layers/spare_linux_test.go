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
	s.spare.mu.Lock()
	defer s.spare.mu.Unlock()
	return append([]string{}, s.spare.ready...)
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
		"mode":      func(u string) error { return os.Chmod(u, 0o700) }, // put right
		"file":      func(u string) error { return os.WriteFile(filepath.Join(u, "secret"), []byte("s"), 0o600) },
		"whiteout":  func(u string) error { return unix.Mknod(filepath.Join(u, "etc"), unix.S_IFCHR, 0) },
		"attribute": func(u string) error { return unix.Setxattr(u, "trusted.overlay.opaque", []byte("y"), 0) },
		"viewed":    func(string) error { _, err := s.Rootfs(t.Context(), "viewed"); return err },
	}
	again := map[string]bool{"pristine": true, "mode": true}
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
					if st.Mode&0o7777 != 0o755 {
						t.Errorf("%s: mode %o", name, st.Mode)
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
