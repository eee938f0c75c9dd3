// Package diskusage measures what trees of files take on disk, as du does: allocated blocks, a file with
// several names once, other file systems not.
package diskusage

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// block is the unit of st_blocks, in bytes (stat(2)).
const block = 512

// Counter measures trees. A file with several names counts once, in whichever tree is measured first.
type Counter struct {
	seen map[inode]bool
}

type inode struct{ dev, ino uint64 }

// Of is what the tree at p takes, in bytes, p itself included. What vanishes meanwhile does not count; what is not there takes nothing.
func Of(ctx context.Context, p string) (int64, error) { return new(Counter).Of(ctx, p) }

// Of is what the tree at p takes beyond what was counted before, in bytes.
func (c *Counter) Of(ctx context.Context, p string) (int64, error) {
	if c.seen == nil {
		c.seen = map[inode]bool{}
	}
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return 0, absent(err)
	}
	n := c.own(&st)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return n, nil
	}
	below, err := c.dir(ctx, unix.AT_FDCWD, p, st.Dev)
	return n + below, err
}

// Own is what the file or directory at p takes itself, without what is in it, in bytes.
func (c *Counter) Own(p string) (int64, error) {
	if c.seen == nil {
		c.seen = map[inode]bool{}
	}
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return 0, absent(err)
	}
	return c.own(&st), nil
}

// own is what one file takes, unless it was counted.
func (c *Counter) own(st *unix.Stat_t) int64 {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		i := inode{st.Dev, st.Ino}
		if c.seen[i] {
			return 0
		}
		c.seen[i] = true
	}
	return st.Blocks * block
}

// dir is what lies below a directory.
func (c *Counter) dir(ctx context.Context, parent int, name string, dev uint64) (n int64, err error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, absent(err)
	}
	d := os.NewFile(uintptr(fd), name)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return 0, absent(err)
	}
	for _, e := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, e, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			if err := absent(err); err != nil {
				return n, err
			}
			continue
		}
		if st.Dev != dev {
			continue
		}
		n += c.own(&st)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			below, err := c.dir(ctx, fd, e, dev)
			if err != nil {
				return n, err
			}
			n += below
		}
	}
	return n, nil
}

func absent(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ESTALE) {
		return nil
	}
	return err
}
