package tarfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Whiteouts says what ".wh." entries mean.
type Whiteouts uint8

// The ways to treat whiteouts.
const (
	// Literal: they are files like all others (docker cp, import).
	Literal Whiteouts = iota
	// Overlay: a layer's own directory is written; they become overlayfs's whiteouts and opaque directories.
	Overlay
	// Apply: the tree below is merged; they delete.
	Apply
)

// The names by which layers tell of deletions (OCI image specification, layer.md).
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// ExtractOptions change how an archive is unpacked.
type ExtractOptions struct {
	Whiteouts Whiteouts
	// Xattrs is the prefix of overlayfs's own attributes: "trusted.overlay." or "user.overlay.". Empty means the former.
	Xattrs string
	// Base is the folder inside the tree that the archive's names are relative to.
	Base string
	// NoOverwriteDirNonDir fails where a directory would replace something else, or the other way round.
	NoOverwriteDirNonDir bool
	// Owner overrides every entry's owner.
	Owner *Owner
	// KeepOwner leaves owners as the creating process's (uid 0), for trees without privileges.
	KeepOwner bool
	// Map, if set, may rename an entry or leave it out by returning "".
	Map func(name string) string
}

// Owner is a user and a group by number.
type Owner struct{ UID, GID int }

// Stats tell what an extraction made.
type Stats struct {
	Size    int64 // sum of the regular files' sizes, hard links once, in bytes
	Entries int64
	// Implied is set if folders were made that the archive does not describe: in a
	// layer, their mode and owner have to come from the layers below.
	Implied bool
	// Missing names the first entry of a layer (with Overlay) that was left out because it needs
	// the layers below: a hard link's target, or a folder behind a link.
	Missing error
}

type extractor struct {
	ctx   context.Context
	root  int
	o     ExtractOptions
	stats Stats
	buf   []byte

	// The directory of the last entry, since most entries follow their siblings.
	parentPath string
	parent     int
	times      []dirTime
	whited     map[string]bool // Overlay: names for which this layer has a whiteout
	seen       map[string]bool // Apply: paths that this archive wrote, which its whiteouts spare
}

type dirTime struct {
	path string
	time [2]unix.Timespec
}

// Extract unpacks a tar stream into the tree below root, an O_PATH descriptor.
// The stream is read to its end, padding included.
func Extract(ctx context.Context, root *os.File, r io.Reader, o ExtractOptions) (Stats, error) {
	if o.Xattrs == "" {
		o.Xattrs = "trusted.overlay."
	}
	x := &extractor{ctx: ctx, root: int(root.Fd()), o: o, parent: -1, buf: make([]byte, 128<<10)}
	if o.Whiteouts == Overlay {
		x.whited = map[string]bool{}
	}
	if o.Whiteouts == Apply {
		x.seen = map[string]bool{}
	}
	defer x.forgetParent()
	tr := tar.NewReader(r)
	for {
		if err := context.Cause(ctx); err != nil {
			return x.stats, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return x.stats, readError(err)
		}
		if err := x.entry(h, tr); err != nil {
			return x.stats, err
		}
	}
	if err := x.setTimes(); err != nil {
		return x.stats, err
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, x.buf)
	return x.stats, err
}

func readError(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the archive is truncated: %w: %w", err, errdefs.ErrInvalidArgument)
	case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong):
		return fmt.Errorf("invalid tar header: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return err
}

func (x *extractor) entry(h *tar.Header, r io.Reader) error {
	name, err := entryName(h.Name)
	if err != nil {
		return err
	}
	if x.o.Map != nil {
		if name = x.o.Map(name); name == "" {
			return nil
		}
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	full := path.Join(x.o.Base, name)
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("invalid archive: an entry %q that is no directory would replace the target folder: %w", h.Name, errdefs.ErrInvalidArgument)
		}
		return x.rootEntry(full, h)
	}
	dir, base := path.Split(full)
	parent, err := x.openParent(path.Clean("/" + dir)[1:])
	if x.o.Whiteouts == Overlay && errors.Is(err, unix.ENOENT) {
		x.missing(describe(fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument), name))
		return nil
	}
	if err != nil {
		return describe(err, name)
	}
	if x.o.Whiteouts != Literal && strings.HasPrefix(base, whiteoutPrefix) {
		return describe(x.whiteout(parent, path.Clean("/" + dir)[1:], base), name)
	}
	x.stats.Entries++
	if err := x.create(parent, full, base, h, r); err != nil {
		return describe(err, name)
	}
	if x.seen != nil {
		x.seen[full] = true
	}
	return nil
}

// rootEntry gives the target folder itself the attributes that the archive has for it.
func (x *extractor) rootEntry(full string, h *tar.Header) error {
	if x.o.Whiteouts == Literal {
		return nil // docker cp does not change the folder that is copied into
	}
	fd, err := OpenDirIn(x.root, full)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return x.attributes(fd, full, h)
}

// missing remembers the first entry that needs the layers below.
func (x *extractor) missing(err error) {
	if x.stats.Missing == nil {
		x.stats.Missing = err
	}
}

// describe adds the entry's name and gives the common causes their class.
func describe(err error, name string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("unpacking %q: no space left on the device: %w: %w", name, err, errdefs.ErrResourceExhausted)
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		return fmt.Errorf("unpacking %q: %w: %w", name, err, errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("unpacking %q: %w", name, err)
}

// openParent opens the directory p, making what is missing of it.
func (x *extractor) openParent(p string) (int, error) {
	if x.parent >= 0 && x.parentPath == p {
		return x.parent, nil
	}
	x.forgetParent()
	fd, err := OpenDirIn(x.root, p)
	if errors.Is(err, unix.ENOENT) {
		fd, err = x.makeParents(p)
	}
	if err != nil {
		return -1, err
	}
	x.parent, x.parentPath = fd, p
	return fd, nil
}

func (x *extractor) forgetParent() {
	if x.parent >= 0 {
		_ = unix.Close(x.parent)
	}
	x.parent, x.parentPath = -1, ""
}

// makeParents makes the folders that an archive implies without describing them.
func (x *extractor) makeParents(p string) (int, error) {
	at := ""
	for part := range strings.SplitSeq(p, "/") {
		parent, err := OpenDirIn(x.root, at)
		if err != nil {
			return -1, err
		}
		err = unix.Mkdirat(parent, part, 0o755)
		if err == nil && x.o.Owner != nil {
			err = unix.Fchownat(parent, part, x.o.Owner.UID, x.o.Owner.GID, unix.AT_SYMLINK_NOFOLLOW)
		}
		_ = unix.Close(parent)
		switch {
		case err == nil:
			x.stats.Implied = true
			x.stats.Entries++
		case !errors.Is(err, unix.EEXIST):
			return -1, err
		}
		at = path.Join(at, part)
	}
	return OpenDirIn(x.root, p)
}

// whiteout does what a ".wh." entry asks for.
func (x *extractor) whiteout(parent int, dir, base string) error {
	if base == whiteoutOpaque {
		if x.o.Whiteouts == Overlay {
			return unix.Setxattr(fdPath(parent), x.o.Xattrs+"opaque", []byte{'y'}, 0)
		}
		return x.clear(parent, dir)
	}
	if strings.HasPrefix(base, whiteoutMeta) {
		return nil // aufs's own files
	}
	name := strings.TrimPrefix(base, whiteoutPrefix)
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("invalid whiteout %q: %w", base, errdefs.ErrInvalidArgument)
	}
	full := path.Join(dir, name)
	if x.o.Whiteouts == Apply {
		if x.seen[full] {
			return nil
		}
		x.forgetParent()
		fd, err := OpenDirIn(x.root, dir)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return removeAll(fd, name)
	}
	x.whited[full] = true
	var st unix.Stat_t
	err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return x.opaque(parent, name)
	case err == nil:
		return nil // the layer deletes the lower one and brings its own
	case !errors.Is(err, unix.ENOENT):
		return err
	}
	return unix.Mknodat(parent, name, unix.S_IFCHR, 0)
}

func (x *extractor) opaque(parent int, name string) error {
	fd, err := unix.Openat(parent, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setxattr(fdPath(fd), x.o.Xattrs+"opaque", []byte{'y'}, 0)
}

// clear empties a merged directory of all that this archive has not written.
func (x *extractor) clear(parent int, dir string) error {
	fd, err := reopen(parent, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(fd), dir)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !x.seen[path.Join(dir, n)] {
			if err := removeAll(fd, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// setTimes gives directories their times last: filling them has changed them.
func (x *extractor) setTimes() error {
	for _, t := range x.times {
		fd, err := OpenDirIn(x.root, t.path)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // replaced or deleted by a later entry
		}
		if err != nil {
			return err
		}
		err = unix.UtimesNanoAt(fd, ".", t.time[:], 0)
		_ = unix.Close(fd)
		if err != nil {
			return fmt.Errorf("setting the time of /%s: %w", t.path, err)
		}
	}
	return nil
}

func timespec(t time.Time) unix.Timespec {
	const first, last = -1 << 31, 1<<34 - 1 // what ext4 can hold
	return unix.Timespec{Sec: min(max(t.Unix(), first), last), Nsec: int64(t.Nanosecond())}
}
