package treecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// Stats is what a copy did.
type Stats struct {
	Entries int64
	Bytes   int64    // of contents, without holes
	Left    []string // paths that were left out: sockets, and what vanished meanwhile
}

// chunk is how much is copied between two looks at the context, in bytes.
const chunk = 16 << 20

// maxLeft bounds the paths that are remembered.
const maxLeft = 100

// Options change how folders are copied and compared.
type Options struct {
	// Progress, if set, is told the bytes copied so far.
	Progress func(bytes int64)
	// Skip is a name in the target's root that does not count as a difference.
	Skip string
	// Shift is what the source's owners are higher by than they are meant to be.
	Shift Shift
}

// Shift is the first user and group on the host of a range that stands for those from 0 on, as a user namespace has it.
type Shift struct{ UID, GID uint32 }

// mapped is how many users and groups such a range has.
const mapped = 65536

func (s Shift) owner(uid, gid uint32) (int, int) { return lower(uid, s.UID), lower(gid, s.GID) }

func lower(id, base uint32) int {
	if base > 0 && id >= base && id-base < mapped {
		return int(id - base)
	}
	return int(id)
}

type copier struct {
	ctx   context.Context
	root  int // of the copy
	stats Stats
	links map[inode]string // first path of a file with several names
	o     Options
}

type inode struct{ dev, ino uint64 }

// Copy copies what is in a folder into another, which is empty, and the folder's own owner, mode, times and attributes.
func Copy(ctx context.Context, from, to *os.File, o Options) (Stats, error) {
	c := &copier{ctx: ctx, root: int(to.Fd()), links: map[inode]string{}, o: o}
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return c.stats, err
	}
	if err := c.children(int(from.Fd()), int(to.Fd()), ""); err != nil {
		return c.stats, err
	}
	return c.stats, c.attributes(int(from.Fd()), int(to.Fd()), &st)
}

func (c *copier) children(from, to int, prefix string) error {
	names, err := tarfs.ReadNames(from)
	if err != nil {
		return fmt.Errorf("reading the folder %q: %w", prefix, err)
	}
	for _, n := range names {
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		if err := c.object(from, to, n, prefix+n); err != nil {
			return fmt.Errorf("copying %q: %w", prefix+n, err)
		}
	}
	return nil
}

func (c *copier) leave(path, why string) {
	if len(c.stats.Left) < maxLeft {
		c.stats.Left = append(c.stats.Left, path+" ("+why+")")
	}
}

// object copies one object, and what is below it.
func (c *copier) object(from, to int, name, path string) error {
	fd, err := unix.Openat(from, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		c.leave(path, "vanished")
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFSOCK {
		c.leave(path, "a socket")
		return nil
	}
	c.stats.Entries++
	if st.Nlink > 1 && kind != unix.S_IFDIR {
		key := inode{st.Dev, st.Ino}
		if first, ok := c.links[key]; ok {
			return unix.Linkat(c.root, first, to, name, 0) // through folders that we made
		}
		c.links[key] = path
	}
	switch kind {
	case unix.S_IFDIR:
		return c.dir(fd, to, name, path, &st)
	case unix.S_IFREG:
		return c.file(fd, to, name, &st)
	case unix.S_IFLNK:
		target, err := readlink(fd)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(target, to, name); err != nil {
			return err
		}
	default:
		if err := unix.Mknodat(to, name, kind|0o600, int(st.Rdev)); err != nil {
			return err
		}
	}
	made, err := unix.Openat(to, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(made)
	return c.attributes(fd, made, &st)
}

func (c *copier) dir(fd, to int, name, path string, st *unix.Stat_t) error {
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return err
	}
	made, err := unix.Openat(to, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(made)
	if err := c.children(fd, made, path+"/"); err != nil {
		return err
	}
	return c.attributes(fd, made, st)
}

func (c *copier) file(fd, to int, name string, st *unix.Stat_t) error {
	src, err := reopen(fd)
	if err != nil {
		return err
	}
	defer src.Close()
	made, err := unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	dst := os.NewFile(uintptr(made), name)
	defer dst.Close()
	if err := c.content(src, dst, st.Size); err != nil {
		return err
	}
	return c.attributes(fd, made, st)
}

// reopen opens for reading what a descriptor stands for.
func reopen(fd int) (*os.File, error) { return os.Open(fmt.Sprintf("/proc/self/fd/%d", fd)) }

// content copies a file's data and leaves its holes.
func (c *copier) content(src, dst *os.File, size int64) error {
	if err := dst.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(src.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no data from here on
			return nil
		}
		end := size
		if err != nil { // a file system that knows no holes
			start = at
		} else if e, err := unix.Seek(int(src.Fd()), start, unix.SEEK_HOLE); err == nil {
			end = min(e, size)
		}
		if start >= size {
			return nil
		}
		if err := c.span(src, dst, start, end); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// span copies a stretch of data.
func (c *copier) span(src, dst *os.File, start, end int64) error {
	if _, err := src.Seek(start, io.SeekStart); err != nil {
		return err
	}
	if _, err := dst.Seek(start, io.SeekStart); err != nil {
		return err
	}
	for start < end {
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		n, err := io.CopyN(dst, src, min(chunk, end-start))
		start += n
		c.stats.Bytes += n
		if c.o.Progress != nil {
			c.o.Progress(c.stats.Bytes)
		}
		if errors.Is(err, io.EOF) { // it shrank meanwhile
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Sync brings all that was written to the file system of a folder to disk.
func Sync(dir *os.File) error { return unix.Syncfs(int(dir.Fd())) }

func readlink(fd int) (string, error) {
	for size := 256; ; size *= 2 {
		b := make([]byte, size)
		n, err := unix.Readlinkat(fd, "", b)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(b[:n]), nil
		}
	}
}

// attributes gives the copy the owner, extended attributes, mode and times of the original. Both may be O_PATH descriptors.
func (c *copier) attributes(from, to int, st *unix.Stat_t) error {
	uid, gid := c.o.Shift.owner(st.Uid, st.Gid)
	if err := unix.Fchownat(to, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("its owner: %w", err)
	}
	link := st.Mode&unix.S_IFMT == unix.S_IFLNK
	original, made := fmt.Sprintf("/proc/self/fd/%d", from), fmt.Sprintf("/proc/self/fd/%d", to)
	if !link {
		if err := unix.Chmod(made, st.Mode&0o7777); err != nil { // after the owner: a change of it takes setuid away
			return fmt.Errorf("its mode: %w", err)
		}
		if err := xattrs(original, made); err != nil { // after the owner: a change of it takes capabilities away
			return err
		}
	}
	return unix.UtimesNanoAt(to, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

// xattrs copies the extended attributes that the target's file system takes.
func xattrs(from, to string) error {
	list, err := grown(func(b []byte) (int, error) { return unix.Listxattr(from, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("its extended attributes: %w", err)
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if name == "" || name == "security.selinux" {
			continue
		}
		value, err := grown(func(b []byte) (int, error) { return unix.Getxattr(from, name, b) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err == nil {
			err = unix.Setxattr(to, name, value, 0)
		}
		if err != nil {
			return fmt.Errorf("its extended attribute %s: %w", name, err)
		}
	}
	return nil
}

// grown calls a function with a buffer that is large enough for what it gives.
func grown(f func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := f(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		if n, err = f(b); !errors.Is(err, unix.ERANGE) {
			return b[:max(n, 0)], err
		}
	}
}
