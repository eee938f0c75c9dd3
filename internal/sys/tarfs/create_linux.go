package tarfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// create makes one entry called base in the directory parent.
func (x *extractor) create(parent int, full, base string, h *tar.Header, r io.Reader) error {
	if err := x.makeRoom(parent, base, h); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return x.directory(parent, full, base, h)
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.regular(parent, full, base, h, r)
	case tar.TypeLink:
		return x.hardLink(parent, base, h)
	case tar.TypeSymlink:
		if len(h.Linkname) > maxName {
			return fmt.Errorf("a link target of %d bytes is too long: %w", len(h.Linkname), errdefs.ErrInvalidArgument)
		}
		if err := unix.Symlinkat(h.Linkname, parent, base); err != nil {
			return err
		}
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		if err := unix.Mknodat(parent, base, nodeType(h.Typeflag), int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))); err != nil {
			return err
		}
	default:
		return fmt.Errorf("an entry of the unknown type %q: %w", h.Typeflag, errdefs.ErrInvalidArgument)
	}
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return x.attributes(fd, full, h)
}

func nodeType(flag byte) uint32 {
	switch flag {
	case tar.TypeChar:
		return unix.S_IFCHR
	case tar.TypeBlock:
		return unix.S_IFBLK
	}
	return unix.S_IFIFO
}

// makeRoom removes what stands where the entry goes, unless both are directories.
func (x *extractor) makeRoom(parent int, base string, h *tar.Header) error {
	var st unix.Stat_t
	err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	wantsDir := h.Typeflag == tar.TypeDir
	if isDir && wantsDir {
		return nil
	}
	if x.o.NoOverwriteDirNonDir {
		switch {
		case isDir:
			return fmt.Errorf("cannot overwrite directory %q with non-directory %q: %w", "/"+path.Join(x.o.Base, h.Name), h.Name, errdefs.ErrInvalidArgument)
		case wantsDir:
			return fmt.Errorf("cannot overwrite non-directory %q with directory %q: %w", "/"+path.Join(x.o.Base, h.Name), h.Name, errdefs.ErrInvalidArgument)
		}
	}
	return removeAll(parent, base)
}

func (x *extractor) directory(parent int, full, base string, h *tar.Header) error {
	if err := unix.Mkdirat(parent, base, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if x.whited[full] {
		if err := unix.Setxattr(fdPath(fd), x.o.Xattrs+"opaque", []byte{'y'}, 0); err != nil {
			return err
		}
	}
	return x.attributes(fd, full, h)
}

// maxSparse bounds the size of a file that is mostly holes, in bytes: a header of
// some bytes could otherwise keep the reader busy for years.
const maxSparse = 1 << 40

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (x *extractor) regular(parent int, full, base string, h *tar.Header, r io.Reader) error {
	if isSparse(h) && h.Size > maxSparse {
		return fmt.Errorf("a sparse file of %d bytes is larger than %d: %w", h.Size, int64(maxSparse), errdefs.ErrInvalidArgument)
	}
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if err := x.content(f, r); err != nil {
		return err
	}
	x.stats.Size += h.Size
	if err := x.attributes(fd, full, h); err != nil {
		return err
	}
	return f.Close()
}

// content writes a file's bytes; blocks of zeros become holes.
func (x *extractor) content(f *os.File, r io.Reader) error {
	const block = 4096
	var at int64
	hole := false
	for {
		if err := context.Cause(x.ctx); err != nil {
			return err
		}
		n, err := io.ReadFull(r, x.buf)
		chunk := x.buf[:n]
		for len(chunk) > 0 {
			zeros := 0
			for zeros+block <= len(chunk) && isZero(chunk[zeros:zeros+block]) {
				zeros += block
			}
			data := zeros
			for data < len(chunk) && !(data+block <= len(chunk) && isZero(chunk[data:data+block])) {
				data = min(data+block, len(chunk))
			}
			hole = zeros > 0 && data == zeros
			at += int64(zeros)
			if data > zeros {
				if _, werr := f.WriteAt(chunk[zeros:data], at); werr != nil {
					return werr
				}
				at += int64(data - zeros)
			}
			chunk = chunk[data:]
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && n > 0 && !truncated(r):
			if hole {
				return f.Truncate(at)
			}
			return nil
		case err != nil:
			return readError(err)
		}
	}
}

// truncated tells a stream that ended too early from the end of an entry: the
// tar reader repeats its error, and says io.EOF at a proper end.
func truncated(r io.Reader) bool {
	var b [1]byte
	_, err := r.Read(b[:])
	return !errors.Is(err, io.EOF)
}

var zeroBlock [4096]byte

func isZero(b []byte) bool { return b[0] == 0 && bytes.Equal(b, zeroBlock[:len(b)]) }

func (x *extractor) hardLink(parent int, base string, h *tar.Header) error {
	target, err := entryName(h.Linkname)
	if err != nil {
		return err
	}
	if x.o.Map != nil {
		target = x.o.Map(target)
	}
	if target == "" {
		return fmt.Errorf("a hard link to the folder itself: %w", errdefs.ErrInvalidArgument)
	}
	dir, name := path.Split(path.Join(x.o.Base, target))
	from, err := OpenDirIn(x.root, dir)
	if err == nil {
		defer unix.Close(from)
		err = unix.Linkat(from, name, parent, base, 0)
	}
	if errors.Is(err, unix.ENOENT) {
		err = fmt.Errorf("the hard link's target %q is not there: %w", h.Linkname, errdefs.ErrInvalidArgument)
		if x.o.Whiteouts == Overlay {
			x.missing(describe(err, h.Name))
			return nil
		}
	}
	return err
}

// attributes sets owner, extended attributes, mode and times through an open
// descriptor (O_PATH or not), in this order: a change of owner clears capabilities and set-id bits.
func (x *extractor) attributes(fd int, full string, h *tar.Header) error {
	uid, gid := h.Uid, h.Gid
	if x.o.Owner != nil {
		uid, gid = x.o.Owner.UID, x.o.Owner.GID
	}
	if uid < 0 || gid < 0 || int64(uid) >= 1<<32-1 || int64(gid) >= 1<<32-1 {
		return fmt.Errorf("the owner %d:%d is out of range: %w", uid, gid, errdefs.ErrInvalidArgument)
	}
	if !x.o.KeepOwner {
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("changing the owner to %d:%d: %w", uid, gid, err)
		}
	}
	if err := x.xattrs(fd, h); err != nil {
		return err
	}
	times := [2]unix.Timespec{timespec(h.ModTime), timespec(h.ModTime)}
	if !h.AccessTime.IsZero() {
		times[0] = timespec(h.AccessTime)
	}
	if h.Typeflag == tar.TypeSymlink {
		return utimes(fd, times)
	}
	if err := unix.Chmod(fdPath(fd), uint32(h.Mode)&0o7777); err != nil {
		return fmt.Errorf("changing the mode: %w", err)
	}
	if h.Typeflag == tar.TypeDir {
		x.times = append(x.times, dirTime{full, times})
		return nil
	}
	return utimes(fd, times)
}

// utimes works for symbolic links too, since the descriptor is the link's own.
func utimes(fd int, times [2]unix.Timespec) error {
	if err := unix.UtimesNanoAt(fd, "", times[:], unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("setting the time: %w", err)
	}
	return nil
}

const paxXattr = "SCHILY.xattr."

func (x *extractor) xattrs(fd int, h *tar.Header) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || overlayOwn(name) {
			// An archive that could set overlayfs's own attributes could redirect into other layers.
			continue
		}
		err := unix.Setxattr(fdPath(fd), name, []byte(value), 0)
		switch {
		case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EPERM) && strings.HasPrefix(name, "user."):
			// not kept by this file system, or by links and devices
		case err != nil:
			return fmt.Errorf("setting the attribute %s: %w", name, err)
		}
	}
	return nil
}

func overlayOwn(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}
