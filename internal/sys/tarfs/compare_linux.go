package tarfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Difference is an entry of an archive that is not in a tree as it should be, or a file of the tree that is not in the archive.
type Difference struct {
	Path string // relative to the tree
	What string
	// Entry is the archive's name for it, or "" for what is not in the archive.
	Entry string
}

func (d Difference) String() string { return "/" + d.Path + ": " + d.What }

// CompareOptions change what Compare looks for.
type CompareOptions struct {
	// Xattrs is the prefix of overlayfs's own attributes. Empty means "trusted.overlay.".
	Xattrs string
	// Alone: the tree has nothing but what the archive brings (Overlay), so that what is more is a difference. Otherwise it was
	// unpacked on top of others (Apply).
	Alone bool
}

// Compare tells what of a tree is not as Extract makes it of a layer's archive. Times of directories and access times are not compared.
func Compare(ctx context.Context, root *os.File, r io.Reader, o CompareOptions) ([]Difference, error) {
	if o.Xattrs == "" {
		o.Xattrs = "trusted.overlay."
	}
	c := &comparer{ctx: ctx, root: int(root.Fd()), o: o, found: map[string]Difference{}, seen: map[string]bool{}, above: map[string]bool{}, buf: make([]byte, 128<<10)}
	tr := tar.NewReader(r)
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, readError(err)
		}
		if err := c.entry(h, tr); err != nil {
			return nil, err
		}
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, c.buf); err != nil {
		return nil, err
	}
	if o.Alone {
		if err := c.extra(""); err != nil {
			return nil, err
		}
	}
	list := slices.Collect(maps.Values(c.found))
	slices.SortFunc(list, func(a, b Difference) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

type comparer struct {
	ctx   context.Context //nolint:containedctx // of one call of Compare
	root  int
	o     CompareOptions
	found map[string]Difference // by path: what comes later in an archive counts
	seen  map[string]bool
	above map[string]bool // folders of what was seen
	buf   []byte
}

// see remembers what the archive has.
func (c *comparer) see(name string) {
	c.seen[name] = true
	for dir := path.Dir(name); dir != "." && !c.above[dir]; dir = path.Dir(dir) {
		c.above[dir] = true
	}
}

func (c *comparer) entry(h *tar.Header, r io.Reader) error {
	name, err := entryName(h.Name)
	if err != nil || h.Typeflag == tar.TypeXGlobalHeader {
		return err
	}
	dir, base := path.Split(name)
	dir = path.Clean("/" + dir)[1:]
	if strings.HasPrefix(base, whiteoutPrefix) {
		return c.whiteout(dir, base, name)
	}
	c.see(name)
	what, err := c.same(dir, base, h, r)
	if err != nil {
		return err
	}
	delete(c.found, name)
	if what != "" {
		c.found[name] = Difference{Path: name, What: what, Entry: name}
	}
	return nil
}

// same tells in what an entry differs, or "".
func (c *comparer) same(dir, base string, h *tar.Header, r io.Reader) (string, error) {
	parent, err := OpenDirIn(c.root, dir)
	if isAbsent(err) {
		return "missing", nil
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(parent)
	if base == "" {
		base = "."
	}
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if isAbsent(err) {
		return "missing", nil
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if h.Typeflag == tar.TypeLink {
		return c.sameLink(&st, h)
	}
	if what := sameAttributes(&st, h); what != "" {
		return what, nil
	}
	if what := sameXattrs(fd, h); what != "" {
		return what, nil
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		n, err := unix.Readlinkat(fd, "", c.buf)
		if err != nil {
			return "", err
		}
		if string(c.buf[:n]) != h.Linkname {
			return fmt.Sprintf("leads to %q instead of %q", c.buf[:n], h.Linkname), nil
		}
	case tar.TypeReg, tar.TypeGNUSparse:
		return c.sameContent(fd, h, r)
	}
	return "", nil
}

func isAbsent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

func fileType(flag byte) uint32 {
	switch flag {
	case tar.TypeDir:
		return unix.S_IFDIR
	case tar.TypeSymlink:
		return unix.S_IFLNK
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return nodeType(flag)
	}
	return unix.S_IFREG
}

func sameAttributes(st *unix.Stat_t, h *tar.Header) string {
	switch {
	case st.Mode&unix.S_IFMT != fileType(h.Typeflag):
		return "is of another type"
	case int64(st.Uid) != int64(h.Uid) || int64(st.Gid) != int64(h.Gid):
		return fmt.Sprintf("belongs to %d:%d instead of %d:%d", st.Uid, st.Gid, h.Uid, h.Gid)
	case h.Typeflag != tar.TypeSymlink && int64(st.Mode)&0o7777 != h.Mode&0o7777:
		return fmt.Sprintf("has the mode %o instead of %o", st.Mode&0o7777, h.Mode&0o7777)
	case h.Typeflag != tar.TypeDir && st.Mtim.Sec != timespec(h.ModTime).Sec:
		return "has another time"
	case (h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse) && st.Size != h.Size:
		return fmt.Sprintf("has %d bytes instead of %d", st.Size, h.Size)
	case (h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock) && st.Rdev != unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)):
		return "is another device"
	}
	return ""
}

func sameXattrs(fd int, h *tar.Header) string {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || overlayOwn(name) {
			continue
		}
		got := make([]byte, len(value)+1)
		n, err := unix.Getxattr(fdPath(fd), name, got)
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) || strings.HasPrefix(name, "user.") && h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
			continue // see setXattrs
		}
		if err != nil || string(got[:n]) != value {
			return "has another attribute " + name
		}
	}
	return ""
}

func (c *comparer) sameContent(fd int, h *tar.Header, r io.Reader) (string, error) {
	n, err := reopen(fd, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(n), h.Name)
	defer f.Close()
	have := make([]byte, len(c.buf))
	for {
		if err := context.Cause(c.ctx); err != nil {
			return "", err
		}
		n, err := io.ReadFull(r, c.buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return "", readError(err)
		}
		m, rerr := io.ReadFull(f, have[:n])
		switch {
		case rerr != nil && !errors.Is(rerr, io.EOF) && !errors.Is(rerr, io.ErrUnexpectedEOF):
			return "cannot be read: " + rerr.Error(), nil
		case m != n || !bytes.Equal(have[:m], c.buf[:n]):
			return "has another content", nil
		case err != nil:
			return "", nil
		}
	}
}

// sameLink compares a hard link with its target.
func (c *comparer) sameLink(st *unix.Stat_t, h *tar.Header) (string, error) {
	target, err := entryName(h.Linkname)
	if err != nil {
		return "", err
	}
	if _, bad := c.found[target]; bad {
		return "is the same file as /" + target, nil
	}
	dir, base := path.Split(target)
	parent, err := OpenDirIn(c.root, dir)
	if err == nil {
		defer unix.Close(parent)
		var to unix.Stat_t
		err = unix.Fstatat(parent, base, &to, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && to.Ino == st.Ino && to.Dev == st.Dev {
			return "", nil
		}
	}
	if err != nil && !isAbsent(err) {
		return "", err
	}
	return "is no link to /" + target + " any more", nil
}

// whiteout looks for what a ".wh." entry leaves in a layer's own tree.
func (c *comparer) whiteout(dir, base, entry string) error {
	if !c.o.Alone || base != whiteoutOpaque && strings.HasPrefix(base, whiteoutMeta) {
		return nil
	}
	parent, err := OpenDirIn(c.root, dir)
	if isAbsent(err) {
		c.found[dir] = Difference{Path: dir, What: "missing", Entry: entry}
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if base == whiteoutOpaque {
		if !c.isOpaque(parent) {
			c.found[dir] = Difference{Path: dir, What: "does not hide what is below it", Entry: entry}
		}
		return nil
	}
	name := path.Join(dir, strings.TrimPrefix(base, whiteoutPrefix))
	if c.seen[name] {
		return nil // the layer brings its own
	}
	c.see(name)
	var st unix.Stat_t
	err = unix.Fstatat(parent, path.Base(name), &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		c.found[name] = Difference{Path: name, What: "does not hide what is below it", Entry: entry}
	}
	return nil
}

func (c *comparer) isOpaque(fd int) bool {
	var v [8]byte
	n, err := unix.Getxattr(fdPath(fd), c.o.Xattrs+"opaque", v[:])
	return err == nil && string(v[:n]) == "y"
}

// extra finds what is in the tree, but not in the archive.
func (c *comparer) extra(dir string) error {
	fd, err := OpenIn(c.root, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(fd), dir)
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		if !c.seen[p] && !c.above[p] {
			c.found[p] = Difference{Path: p, What: "is not in the archive"}
			continue
		}
		if e.IsDir() {
			if err := c.extra(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// Mend puts right what Compare found, of the same archive.
func Mend(ctx context.Context, root *os.File, r io.Reader, found []Difference, o ExtractOptions) error {
	wrong := map[string]bool{}
	for _, d := range found {
		if d.Entry == "" || d.What == "is of another type" {
			dir, base := path.Split(d.Path)
			parent, err := OpenDirIn(int(root.Fd()), dir)
			if isAbsent(err) {
				continue // went with what it was in
			}
			if err != nil {
				return err
			}
			err = removeAll(parent, base)
			_ = unix.Close(parent)
			if err != nil {
				return err
			}
		}
		if d.Entry != "" {
			wrong[d.Entry] = true
		}
		for dir := path.Dir(d.Path); dir != "."; dir = path.Dir(dir) { // their times change
			wrong[dir] = true
		}
	}
	o.only = func(name string) bool { return wrong[name] }
	_, err := Extract(ctx, root, r, o)
	return err
}
