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

// maker makes entries in their folders, which are open.
type maker struct {
	ctx        context.Context
	root       int
	o          *ExtractOptions
	stats      *Stats
	buf        []byte
	deletions  *deletions
	attributes *attributes
}

// create makes one entry called base in the directory parent.
func (m *maker) create(parent int, full, base string, h *tar.Header, r io.Reader) error {
	if err := m.makeRoom(parent, base, h); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return m.directory(parent, full, base, h)
	case tar.TypeReg, tar.TypeGNUSparse:
		return m.regular(parent, full, base, h, r)
	case tar.TypeLink:
		return m.hardLink(parent, base, h)
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
	return m.attributes.set(fd, full, h)
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
func (m *maker) makeRoom(parent int, base string, h *tar.Header) error {
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
	if m.o.NoOverwriteDirNonDir {
		switch {
		case isDir:
			return fmt.Errorf("cannot overwrite directory %q with non-directory %q: %w", "/"+path.Join(m.o.Base, h.Name), h.Name, errdefs.ErrInvalidArgument)
		case wantsDir:
			return fmt.Errorf("cannot overwrite non-directory %q with directory %q: %w", "/"+path.Join(m.o.Base, h.Name), h.Name, errdefs.ErrInvalidArgument)
		}
	}
	return removeAll(parent, base)
}

func (m *maker) directory(parent int, full, base string, h *tar.Header) error {
	if err := unix.Mkdirat(parent, base, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := m.deletions.renew(fd, full); err != nil {
		return err
	}
	return m.attributes.set(fd, full, h)
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

func (m *maker) regular(parent int, full, base string, h *tar.Header, r io.Reader) error {
	if isSparse(h) && h.Size > maxSparse {
		return fmt.Errorf("a sparse file of %d bytes is larger than %d: %w", h.Size, int64(maxSparse), errdefs.ErrInvalidArgument)
	}
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if err := m.content(f, r); err != nil {
		return err
	}
	m.stats.Size += h.Size
	if err := m.attributes.set(fd, full, h); err != nil {
		return err
	}
	return f.Close()
}

// content writes a file's bytes; blocks of zeros become holes.
func (m *maker) content(f *os.File, r io.Reader) error {
	const block = 4096
	var at int64
	hole := false
	for {
		if err := context.Cause(m.ctx); err != nil {
			return err
		}
		n, err := io.ReadFull(r, m.buf)
		chunk := m.buf[:n]
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

func (m *maker) hardLink(parent int, base string, h *tar.Header) error {
	target, err := entryName(h.Linkname)
	if err != nil {
		return err
	}
	if m.o.Map != nil {
		target = m.o.Map(target)
	}
	if target == "" {
		return fmt.Errorf("a hard link to the folder itself: %w", errdefs.ErrInvalidArgument)
	}
	dir, name := path.Split(path.Join(m.o.Base, target))
	from, err := OpenDirIn(m.root, dir)
	if err == nil {
		defer unix.Close(from)
		err = unix.Linkat(from, name, parent, base, 0)
	}
	if errors.Is(err, unix.ENOENT) {
		err = fmt.Errorf("the hard link's target %q is not there: %w", h.Linkname, errdefs.ErrInvalidArgument)
		if m.o.Whiteouts == Overlay {
			m.stats.miss(describe(err, h.Name))
			return nil
		}
	}
	return err
}
