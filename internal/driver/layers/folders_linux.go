package layers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
)

// folders is where a store keeps what, and by which driver.
type folders struct {
	dir, boot, driver string
	trash             *trash
	maxLayer          int64 // bytes of a layer's archive; 0 is the size of the disk

	unwritten atomic.Int64 // bytes, about
	writing   atomic.Bool
	writer    sync.WaitGroup
}

// choose takes the driver. A store remembers its driver: the two lay files out differently.
func (f *folders) choose(driver string) error {
	mark := filepath.Join(f.dir, "driver")
	b, err := os.ReadFile(mark)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	was := strings.TrimSpace(string(b))
	switch {
	case driver == "" && was != "":
		driver = was
	case driver == "":
		driver = DriverOverlay
		if f.probe() != nil {
			driver = DriverCopy
		}
	case driver != DriverOverlay && driver != DriverCopy:
		return fmt.Errorf("unknown storage driver %q: %q and %q are there: %w", driver, DriverOverlay, DriverCopy, errdefs.ErrInvalidArgument)
	}
	if was != "" && was != driver {
		return fmt.Errorf("the layer store %s was made with the driver %q and cannot be used with %q; remove it or choose the former: %w", f.dir, was, driver, errdefs.ErrFailedPrecondition)
	}
	if driver == DriverOverlay {
		if err := f.probe(); err != nil {
			return fmt.Errorf("overlayfs does not work on %s (the driver %q works everywhere): %w", f.dir, DriverCopy, err)
		}
	}
	f.driver = driver
	if was == "" {
		return atomicfile.Write(mark, []byte(driver+"\n"), 0o600)
	}
	return nil
}

// Driver is the driver in use, by name.
func (f *folders) Driver() string { return f.driver }

// Dir is the store's folder.
func (f *folders) Dir() string { return f.dir }

func (f *folders) layerFS(name string) string { return filepath.Join(f.dir, "layers", name, "fs") }

// temp makes a fresh directory that a crash cannot leave behind.
func (f *folders) temp() (string, error) { return os.MkdirTemp(filepath.Join(f.dir, "tmp"), "n-") }

// syncAll makes everything on the store's file system durable: once per unpacked image, not per file.
func (f *folders) syncAll() error {
	d, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("writing the layers to disk: %w", err)
	}
	return nil
}

// writeBackAfter is from how many bytes on the disk begins to write while more is unpacked.
const writeBackAfter = 64 << 20

// wrote tells of bytes that were unpacked. Many are written to disk behind that, so that few are left when all has to be there.
func (f *folders) wrote(n int64) {
	if f.unwritten.Add(n) < writeBackAfter || !f.writing.CompareAndSwap(false, true) {
		return
	}
	f.unwritten.Store(0)
	f.writer.Go(func() {
		defer f.writing.Store(false)
		_ = f.syncAll() // done again, and heeded, when it matters
	})
}

// spread asks the file system to put what is made in dir into parts of the disk of its own, where it can (ext4). Layers that
// are unpacked side by side then do not wait for each other, and none searches the inodes of one that was deleted just
// before for some that may be taken again: in a group full of those, that is most of the time a pull takes.
func spread(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	if flags, err := unix.IoctlGetUint32(int(d.Fd()), unix.FS_IOC_GETFLAGS); err == nil && flags&topDir == 0 {
		_ = unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, int(flags|topDir))
	}
}

// topDir is FS_TOPDIR_FL of linux/fs.h.
const topDir = 0x20000
