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

const data = "_data"

func (d *Driver) dir(name string) string { return filepath.Join(d.root, name) }

// Path is the volume's content.
func (d *Driver) Path(name string) string { return filepath.Join(d.root, name, data) }

// fileName refuses names that could lead out of the volumes' folder or be taken for a mark.
func fileName(name string) error {
	if name == "" || name[0] == '.' || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q is no volume's name: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
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

// Mount makes a volume's own mount, if it has one and it is not there. A folder
// that is gone is an error, never made anew: the disk it lies on may be missing.
func (d *Driver) Mount(ctx context.Context, name string, opts map[string]string) error {
	at := d.Path(name)
	if _, err := os.Lstat(at); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the content of the volume %s is gone: there is no %s; put it back, or remove the volume: %w", name, at, errdefs.ErrDataLoss)
		}
		return err
	}
	if len(opts) == 0 {
		return nil
	}
	if mounted, err := mountinfo.Mounted(at); err != nil || mounted {
		return err
	}
	if err := mount(ctx, opts["device"], at, opts["type"], opts["o"]); err != nil {
		return err
	}
	if err := finishFilling(at); err != nil {
		return errors.Join(err, unix.Unmount(at, unix.MNT_DETACH))
	}
	return nil
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
