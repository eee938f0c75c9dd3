package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Driver keeps volumes below one folder.
type Driver struct{ root string }

// New makes the driver; volumes lie below <dataRoot>/volumes.
func New(dataRoot string) (*Driver, error) {
	root := filepath.Join(dataRoot, "volumes")
	if err := os.MkdirAll(root, 0o701); err != nil {
		return nil, fmt.Errorf("making the volumes' folder: %w", err)
	}
	return &Driver{root}, nil
}

func (d *Driver) dir(name string) string { return filepath.Join(d.root, name) }

// Path is the volume's content.
func (d *Driver) Path(name string) string { return filepath.Join(d.root, name, "_data") }

// Create makes the volume's folder.
func (d *Driver) Create(_ context.Context, name string, _ map[string]string) error {
	if err := os.Mkdir(d.dir(name), 0o701); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Mkdir(d.Path(name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Remove deletes the volume's folder. It refuses to delete through a mount.
func (d *Driver) Remove(_ context.Context, name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return fmt.Errorf("%q is no volume's name: %w", name, errdefs.ErrInvalidArgument)
	}
	if mounted, err := mountinfo.Mounted(d.Path(name)); err == nil && mounted {
		return fmt.Errorf("%s is still mounted: %w", d.Path(name), errdefs.ErrConflict)
	}
	return os.RemoveAll(d.dir(name))
}

// Validate checks the options of a local volume.
func (*Driver) Validate(opts map[string]string) error {
	for k, v := range opts {
		switch k {
		case "type", "device", "o":
			if v == "" {
				return fmt.Errorf("missing value for option %q: %w", k, errdefs.ErrInvalidArgument)
			}
		case "size":
			return fmt.Errorf("the volume option \"size\" (a quota) is not supported by this engine yet: %w", errdefs.ErrNotImplemented)
		default:
			return fmt.Errorf("invalid option: %q: %w", k, errdefs.ErrInvalidArgument)
		}
	}
	if len(opts) == 0 {
		return nil
	}
	if opts["device"] == "" {
		return fmt.Errorf("missing device in volume options: %w", errdefs.ErrInvalidArgument)
	}
	if opts["type"] == "" && !bind(opts["o"]) {
		return fmt.Errorf("missing type in volume options: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

func bind(o string) bool {
	for part := range strings.SplitSeq(o, ",") {
		if part == "bind" || part == "rbind" {
			return true
		}
	}
	return false
}

// Mount makes a volume's own mount, if it has one and it is not there.
func (d *Driver) Mount(ctx context.Context, name string, opts map[string]string) error {
	if len(opts) == 0 {
		return nil
	}
	at := d.Path(name)
	if mounted, err := mountinfo.Mounted(at); err != nil || mounted {
		return err
	}
	return mount(ctx, opts["device"], at, opts["type"], opts["o"])
}

// Unmount undoes Mount.
func (d *Driver) Unmount(_ context.Context, name string) error {
	mounted, err := mountinfo.Mounted(d.Path(name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !mounted {
		return nil
	}
	if err != nil {
		return err
	}
	return unix.Unmount(d.Path(name), unix.UMOUNT_NOFOLLOW)
}

// Size is what the content takes, hard links once, in bytes.
func (d *Driver) Size(ctx context.Context, name string) (int64, error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	var sum int64
	err := filepath.WalkDir(d.Path(name), func(_ string, e fs.DirEntry, err error) error {
		if cerr := context.Cause(ctx); cerr != nil {
			return cerr
		}
		if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return nil
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok || seen[inode{uint64(st.Dev), st.Ino}] {
			return nil
		}
		if st.Nlink > 1 {
			seen[inode{uint64(st.Dev), st.Ino}] = true
		}
		sum += fi.Size()
		return nil
	})
	return sum, err
}

// Sweep deletes what a crash left: folders without a record, half copies.
func (d *Driver) Sweep(ctx context.Context, known func(string) bool) error {
	list, err := os.ReadDir(d.root)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !e.IsDir() {
			continue
		}
		if !known(e.Name()) {
			if err := errors.Join(d.Unmount(ctx, e.Name()), d.Remove(ctx, e.Name())); err != nil {
				return fmt.Errorf("deleting the left-over volume %s: %w", e.Name(), err)
			}
			continue
		}
		if err := os.RemoveAll(filepath.Join(d.dir(e.Name()), filling)); err != nil {
			return err
		}
	}
	return nil
}
