package layers

import (
	"os"
	"path/filepath"
	"testing"
)

// The stubs are there below every image, complete again after a crash, and no part of what a container changed.
func TestStubsAreBelowEverything(t *testing.T) {
	dir := t.TempDir()
	s := store(t, dir, "overlay")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "stubs", "etc")); err != nil {
		t.Fatal(err)
	}
	store(t, dir, "overlay")
	for _, p := range []string{"dev/console", "dev/pts", "proc", "sys", "etc/hosts", "etc/resolv.conf", "etc/hostname", ".dockerenv"} {
		if _, err := os.Stat(filepath.Join(dir, "stubs", p)); err != nil {
			t.Error(err)
		}
	}
	if to, err := os.Readlink(filepath.Join(dir, "stubs", "etc/mtab")); err != nil || to != "/proc/mounts" {
		t.Errorf("etc/mtab leads to %q: %v", to, err)
	}
}
