package tarfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// The names by which layers tell of deletions (OCI image specification, layer.md).
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// deletions does what a layer's whiteouts ask for, whether they come before what the layer itself brings or after it.
type deletions struct {
	root    int
	how     Whiteouts
	xattrs  string // the prefix of overlayfs's own attributes
	parents *parents

	whited map[string]bool // Overlay: names for which this layer has a whiteout
	seen   map[string]bool // Apply: paths that this archive wrote, which its whiteouts spare
}

func newDeletions(root int, o *ExtractOptions, p *parents) *deletions {
	d := &deletions{root: root, how: o.Whiteouts, xattrs: o.Xattrs, parents: p}
	switch o.Whiteouts {
	case Overlay:
		d.whited = map[string]bool{}
	case Apply:
		d.seen = map[string]bool{}
	}
	return d
}

// asked tells whether an entry called base asks for a deletion.
func (d *deletions) asked(base string) bool {
	return d.how != Literal && strings.HasPrefix(base, whiteoutPrefix)
}

// wrote remembers an entry that this archive brought.
func (d *deletions) wrote(full string) {
	if d.seen != nil {
		d.seen[full] = true
	}
}

// carryOut does what a ".wh." entry asks for.
func (d *deletions) carryOut(parent int, dir, base string) error {
	if base == whiteoutOpaque {
		if d.how == Overlay {
			return d.opaque(parent)
		}
		return d.clear(parent, dir)
	}
	if strings.HasPrefix(base, whiteoutMeta) {
		return nil // aufs's own files
	}
	name := strings.TrimPrefix(base, whiteoutPrefix)
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("invalid whiteout %q: %w", base, errdefs.ErrInvalidArgument)
	}
	full := path.Join(dir, name)
	if d.how == Apply {
		if d.seen[full] {
			return nil
		}
		d.parents.forget()
		fd, err := OpenDirIn(d.root, dir)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return removeAll(fd, name)
	}
	d.whited[full] = true
	var st unix.Stat_t
	err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return d.opaqueBelow(parent, name)
	case err == nil:
		return nil // the layer deletes the lower one and brings its own
	case !errors.Is(err, unix.ENOENT):
		return err
	}
	return unix.Mknodat(parent, name, unix.S_IFCHR, 0)
}

// renew hides what lower layers have in a directory that the layer deleted before it brings it anew.
func (d *deletions) renew(fd int, full string) error {
	if !d.whited[full] {
		return nil
	}
	return d.opaque(fd)
}

// opaqueBelow hides what lower layers have in the folder name of the directory parent.
func (d *deletions) opaqueBelow(parent int, name string) error {
	fd, err := unix.Openat(parent, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return d.opaque(fd)
}

// opaque makes overlayfs hide what lower layers have in the directory fd.
func (d *deletions) opaque(fd int) error {
	return unix.Setxattr(fdPath(fd), d.xattrs+"opaque", []byte{'y'}, 0)
}

// clear empties a merged directory of all that this archive has not written.
func (d *deletions) clear(parent int, dir string) error {
	fd, err := reopen(parent, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !d.seen[path.Join(dir, n)] {
			if err := removeAll(fd, n); err != nil {
				return err
			}
		}
	}
	return nil
}
