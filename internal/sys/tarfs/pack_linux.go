package tarfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// PackOptions change how a tree is written as an archive.
type PackOptions struct {
	// Base replaces the packed object's own name. Empty packs a directory's content only, with names relative to it.
	Base string
	// Overlay turns overlayfs's whiteouts and opaque directories into the ".wh." entries of layers.
	Overlay bool
	// Xattrs is the prefix of overlayfs's own attributes; empty means "trusted.overlay.".
	Xattrs string
	// SkipMounts leaves out what is on another file system than the start (an export has no volumes).
	SkipMounts bool
}

type packer struct {
	ctx   context.Context
	tw    *tar.Writer
	o     PackOptions
	buf   []byte
	links map[inode]string
	dev   uint64
	flat  bool // objects only, not what is below them
}

type inode struct{ dev, ino uint64 }

// Pack writes the object name in the directory dir (both descriptors of the
// caller's tree) as entries of tw. With an empty name it is dir itself. No link is followed.
func Pack(ctx context.Context, dir int, name string, tw *tar.Writer, o PackOptions) error {
	if o.Xattrs == "" {
		o.Xattrs = "trusted.overlay."
	}
	p := &packer{ctx: ctx, tw: tw, o: o, buf: make([]byte, 128<<10), links: map[inode]string{}}
	if name == "" {
		name = "."
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	p.dev = st.Dev
	if o.Base != "" || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return p.object(dir, name, cmpOr(o.Base, name))
	}
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return p.children(fd, "")
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// object writes one object, and what is below it, under the archive name out.
func (p *packer) object(dir int, name, out string) error {
	if err := context.Cause(p.ctx); err != nil {
		return err
	}
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil // gone since the directory was read
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: out, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstatat(fd, "", &st, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if p.o.Overlay && isWhiteout(&st) {
		d, b := path.Split(out)
		return p.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: d + whiteoutPrefix + b, ModTime: time.Unix(st.Mtim.Sec, 0), Mode: 0o600})
	}
	h, err := p.header(fd, &st, out)
	if err != nil || h == nil {
		return err
	}
	if st.Nlink > 1 && h.Typeflag != tar.TypeDir {
		key := inode{st.Dev, st.Ino}
		if first, ok := p.links[key]; ok {
			h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first, 0, nil
			return p.tw.WriteHeader(h)
		}
		p.links[key] = h.Name
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return p.file(fd, h)
	case tar.TypeDir:
		return p.dir(fd, &st, h, out)
	}
	return p.tw.WriteHeader(h)
}

func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func (p *packer) dir(fd int, st *unix.Stat_t, h *tar.Header, out string) error {
	if err := p.tw.WriteHeader(h); err != nil {
		return err
	}
	if p.o.Overlay && IsOpaque(fd, p.o.Xattrs) {
		if err := p.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: out + "/" + whiteoutOpaque, ModTime: h.ModTime, Mode: 0o600}); err != nil {
			return err
		}
	}
	if p.flat || p.o.SkipMounts && st.Dev != p.dev {
		return nil
	}
	return p.children(fd, strings.TrimSuffix(out, "/")+"/")
}

func (p *packer) children(fd int, prefix string) error {
	names, err := ReadNames(fd)
	if err != nil {
		return fmt.Errorf("reading the folder %q: %w", prefix, err)
	}
	for _, n := range names {
		if err := p.object(fd, n, prefix+n); err != nil {
			return err
		}
	}
	return nil
}

// ReadNames lists a directory that is open with O_PATH, sorted.
func ReadNames(fd int) ([]string, error) {
	n, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(n), "directory")
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// IsOpaque tells whether overlayfs hides what is below the directory.
func IsOpaque(fd int, prefix string) bool {
	var b [1]byte
	n, err := unix.Getxattr(fdPath(fd), prefix+"opaque", b[:])
	return err == nil && n == 1 && b[0] == 'y'
}

// header describes an object; nil for what archives cannot hold (sockets).
func (p *packer) header(fd int, st *unix.Stat_t, out string) (*tar.Header, error) {
	h := &tar.Header{
		Name: out, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Sec, st.Mtim.Nsec), Format: tar.FormatPAX,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		h.Name = strings.TrimSuffix(h.Name, "/") + "/"
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		target, err := readlink(fd, "")
		if err != nil {
			return nil, err
		}
		h.Linkname = target
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, nil
	}
	if h.ModTime.Nanosecond() == 0 && h.Uid < 1<<21 && h.Gid < 1<<21 {
		h.Format = tar.FormatUnknown // the writer takes the plainest that fits
	}
	p.readXattrs(fd, h)
	return h, nil
}

func readlink(fd int, name string) (string, error) {
	b := make([]byte, maxName+1)
	n, err := unix.Readlinkat(fd, name, b)
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// readXattrs adds the extended attributes, without those that are overlayfs's own.
func (p *packer) readXattrs(fd int, h *tar.Header) {
	size, err := unix.Listxattr(fdPath(fd), nil)
	if err != nil || size <= 0 {
		return // the file system has none
	}
	list := make([]byte, size+256)
	size, err = unix.Listxattr(fdPath(fd), list)
	if err != nil {
		return
	}
	for name := range strings.SplitSeq(string(list[:size]), "\x00") {
		if name == "" || overlayOwn(name) || strings.HasPrefix(name, "system.") || name == "security.selinux" {
			continue
		}
		n, err := unix.Getxattr(fdPath(fd), name, nil)
		if err != nil || n < 0 {
			continue
		}
		value := make([]byte, n)
		if n > 0 {
			if n, err = unix.Getxattr(fdPath(fd), name, value); err != nil {
				continue
			}
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+name] = string(value[:n])
		h.Format = tar.FormatPAX
	}
}

// file writes a regular file. One that shrinks meanwhile is filled up with
// zeros, one that grows is cut, so that the archive stays whole.
func (p *packer) file(fd int, h *tar.Header) error {
	n, err := reopen(fd, unix.O_RDONLY)
	if err != nil {
		return &os.PathError{Op: "open", Path: h.Name, Err: err}
	}
	f := os.NewFile(uintptr(n), h.Name)
	defer f.Close()
	if err := p.tw.WriteHeader(h); err != nil {
		return err
	}
	done, err := io.CopyBuffer(struct{ io.Writer }{p.tw}, io.LimitReader(struct{ io.Reader }{f}, h.Size), p.buf)
	if err != nil {
		return err
	}
	for done < h.Size {
		n, err := p.tw.Write(zeroBlock[:min(int64(len(zeroBlock)), h.Size-done)])
		if err != nil {
			return err
		}
		done += int64(n)
	}
	return nil
}

// Packer writes single objects, without what is below them, keeping track of hard links.
type Packer struct{ p packer }

// NewPacker makes a packer that writes to tw.
func NewPacker(ctx context.Context, tw *tar.Writer, o PackOptions) *Packer {
	return &Packer{packer{ctx: ctx, tw: tw, o: o, buf: make([]byte, 128<<10), links: map[inode]string{}, flat: true}}
}

// One writes the object name of the directory dir as out.
func (p *Packer) One(dir int, name, out string) error { return p.p.object(dir, name, out) }
