package treecopy

import (
	"context"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// Difference names the first path in which two folders differ; empty where they do not. Files of one size and time count as
// equal without a look at their content, and sockets do not count.
func Difference(ctx context.Context, a, b *os.File, o Options) (string, error) {
	return children(ctx, int(a.Fd()), int(b.Fd()), "", o)
}

func children(ctx context.Context, a, b int, prefix string, o Options) (string, error) {
	left, err := tarfs.ReadNames(a)
	if err != nil {
		return "", err
	}
	right, err := tarfs.ReadNames(b)
	if err != nil {
		return "", err
	}
	for _, n := range left {
		if err := context.Cause(ctx); err != nil {
			return "", err
		}
		if d, err := object(ctx, a, b, n, prefix+n, o); d != "" || err != nil {
			return d, err
		}
	}
	for _, n := range right {
		if _, both := slices.BinarySearch(left, n); !both && (prefix != "" || n != o.Skip) {
			return prefix + n, nil
		}
	}
	return "", nil
}

func object(ctx context.Context, a, b int, name, path string, o Options) (string, error) {
	var x, y unix.Stat_t
	if err := unix.Fstatat(a, name, &x, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return path, nil
	}
	kind := x.Mode & unix.S_IFMT
	if kind == unix.S_IFSOCK {
		return "", nil
	}
	if err := unix.Fstatat(b, name, &y, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return path, nil
	}
	uid, gid := o.Shift.owner(x.Uid, x.Gid)
	if x.Mode != y.Mode || uid != int(y.Uid) || gid != int(y.Gid) || x.Rdev != y.Rdev || x.Mtim.Sec != y.Mtim.Sec || kind != unix.S_IFDIR && x.Size != y.Size {
		return path, nil
	}
	switch kind {
	case unix.S_IFLNK:
		return link(a, b, name, path), nil
	case unix.S_IFDIR:
		return folders(ctx, a, b, name, path, o)
	}
	return "", nil
}

func link(a, b int, name, path string) string {
	p, q := make([]byte, unix.PathMax), make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(a, name, p)
	m, err2 := unix.Readlinkat(b, name, q)
	if err != nil || err2 != nil || string(p[:n]) != string(q[:m]) {
		return path
	}
	return ""
}

func folders(ctx context.Context, a, b int, name, path string, o Options) (string, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	x, err := unix.Openat(a, name, flags, 0)
	if err != nil {
		return path, nil
	}
	defer unix.Close(x)
	y, err := unix.Openat(b, name, flags, 0)
	if err != nil {
		return path, nil
	}
	defer unix.Close(y)
	return children(ctx, x, y, path+"/", o)
}

// Size is how many bytes of contents a folder has, without holes, for a look ahead.
func Size(ctx context.Context, dir *os.File) (bytes int64, err error) {
	err = size(ctx, int(dir.Fd()), &bytes)
	return bytes, err
}

func size(ctx context.Context, dir int, sum *int64) error {
	names, err := tarfs.ReadNames(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		var st unix.Stat_t
		if unix.Fstatat(dir, n, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue // gone meanwhile
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			*sum += min(st.Size, st.Blocks*512)
		case unix.S_IFDIR:
			fd, err := unix.Openat(dir, n, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			err = size(ctx, fd, sum)
			_ = unix.Close(fd)
			if err != nil {
				return err
			}
		}
	}
	return nil
}
