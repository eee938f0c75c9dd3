package layers

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/overlayfs"
)

// probe tries what the overlay driver needs on the store's file system: an
// overlay mount with an upper directory, its attributes, and a whiteout.
func (f *folders) probe() (err error) {
	dir, err := f.temp()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l := overlayfs.Layers{Options: mountOptions}
	for _, d := range []string{"low1", "low2", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	l.Lower = []string{filepath.Join(dir, "low1"), filepath.Join(dir, "low2")}
	l.Upper, l.Work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	if err := unix.Setxattr(l.Lower[0], "trusted.overlay.opaque", []byte{'y'}, 0); err != nil {
		return fmt.Errorf("setting an attribute: %w", err)
	}
	if err := os.WriteFile(filepath.Join(l.Lower[0], "f"), nil, 0o600); err != nil {
		return err
	}
	if err := unix.Mknod(filepath.Join(l.Lower[0], "w"), unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("making a whiteout: %w", err)
	}
	m, err := overlayfs.Detached(l)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := unix.Unlinkat(int(m.Fd()), "f", 0); err != nil {
		return fmt.Errorf("deleting through an overlay mount: %w", err)
	}
	return nil
}
