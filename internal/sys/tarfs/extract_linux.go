package tarfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

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

	only func(name string) bool // if set: all else is left out
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

// miss remembers the first entry that needs the layers below.
func (s *Stats) miss(err error) {
	if s.Missing == nil {
		s.Missing = err
	}
}

// extractor reads an archive's entries and hands each to whose job it is.
type extractor struct {
	root       int
	o          ExtractOptions
	stats      Stats
	parents    *parents
	deletions  *deletions
	maker      *maker
	attributes *attributes
	times      *dirTimes
}

func newExtractor(ctx context.Context, root int, o ExtractOptions) *extractor {
	x := &extractor{root: root, o: o}
	x.parents = &parents{root: root, owner: o.Owner, stats: &x.stats, fd: -1}
	x.deletions = newDeletions(root, &x.o, x.parents)
	x.times = &dirTimes{root: root}
	x.attributes = &attributes{owner: o.Owner, keepOwner: o.KeepOwner, times: x.times}
	x.maker = &maker{
		ctx: ctx, root: root, o: &x.o, stats: &x.stats, buf: make([]byte, 128<<10),
		deletions: x.deletions, attributes: x.attributes,
	}
	return x
}

// Extract unpacks a tar stream into the tree below root, an O_PATH descriptor.
// The stream is read to its end, padding included.
func Extract(ctx context.Context, root *os.File, r io.Reader, o ExtractOptions) (Stats, error) {
	if o.Xattrs == "" {
		o.Xattrs = "trusted.overlay."
	}
	x := newExtractor(ctx, int(root.Fd()), o)
	defer x.parents.forget()
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
	if err := x.times.set(); err != nil {
		return x.stats, err
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, x.maker.buf)
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
	if h.Typeflag == tar.TypeXGlobalHeader || x.o.only != nil && !x.o.only(name) {
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
	parent, err := x.parents.open(path.Clean("/" + dir)[1:])
	if x.o.Whiteouts == Overlay && errors.Is(err, unix.ENOENT) {
		x.stats.miss(describe(fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument), name))
		return nil
	}
	if err != nil {
		return describe(err, name)
	}
	if x.deletions.asked(base) {
		return describe(x.deletions.carryOut(parent, path.Clean("/" + dir)[1:], base), name)
	}
	x.stats.Entries++
	if err := x.maker.create(parent, full, base, h, r); err != nil {
		return describe(err, name)
	}
	x.deletions.wrote(full)
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
	return x.attributes.set(fd, full, h)
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
