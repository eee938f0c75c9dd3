package layers

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/warm"
)

// spareSize is how many writable layers wait to be taken, each four empty inodes.
var spareSize = warm.Size{Idle: 8, Limit: 8}

// spares are writable layers for one stack of layers, named by their chain. Making and deleting them costs a
// file system more than all the rest of create, giving them a name next to nothing. A removed
// container's layer that nothing was ever written to becomes a spare one, too. Those of a killed
// daemon are deleted at Open.
type spares struct {
	w    *writables
	dir  string
	made atomic.Uint64
	kept *warm.Keyed[string, string] // chain → folders
}

func newSpares(w *writables) *spares {
	p := &spares{w: w, dir: filepath.Join(w.dir, "spare")}
	p.kept = warm.NewKeyed(func(a, b string) bool { return a == b }, func(chain string) *warm.Pool[string] {
		return warm.New(spareSize, warm.Maker[string]{
			Begin: func() func() (string, error) { return func() (string, error) { return p.make(chain) } },
			Drop:  func(dir string) { _ = os.RemoveAll(dir) },
		})
	})
	return p
}

// take moves a spare layer for chain to dir, and tells whether there was one.
func (p *spares) take(chain, dir string) bool {
	from, ok := p.kept.Take(chain)
	if !ok {
		return false
	}
	if err := os.Rename(from, dir); err != nil {
		_ = os.RemoveAll(from)
		return false
	}
	return true
}

func (p *spares) name() string { return filepath.Join(p.dir, strconv.FormatUint(p.made.Add(1), 10)) }

func (p *spares) make(chain string) (string, error) {
	dir := p.name()
	err := p.w.makeOverlay(&container{dir: dir, chain: chain})
	if err != nil {
		_ = os.RemoveAll(dir)
	}
	return dir, err
}

// reuse makes a removed container's layer a spare one, and tells whether it did. Only what is exactly as it was
// made qualifies: no file, no whiteout, no attribute, the image's own mode and owner.
func (p *spares) reuse(w waste) bool {
	upper, work := filepath.Join(w.dir, "upper"), filepath.Join(w.dir, "work")
	// Overlayfs gives each upper directory a name of its own at its first mount.
	if err := unix.Removexattr(upper, "trusted.overlay.uuid"); err != nil && !errors.Is(err, unix.ENODATA) {
		return false
	}
	if os.RemoveAll(filepath.Join(work, "work")) != nil {
		return false
	}
	flags, ok := pristine(upper)
	same, clean := pristine(work)
	if !ok || !clean || flags != same {
		return false
	}
	lower := p.w.stacks.lower(w.chain)
	if len(lower) == 0 || likeRoot(upper, lower[0]) != nil || os.Chtimes(upper, time.Time{}, time.Now()) != nil {
		return false
	}
	dir := p.name()
	if os.Rename(w.dir, dir) != nil {
		return false
	}
	if !p.kept.Give(w.chain, dir) {
		_ = os.RemoveAll(dir)
	}
	return true
}

// pristine tells whether a directory is empty and has no attributes, and its flags (chattr). What a
// container cannot reach, its work directory, says which flags are ordinary.
func pristine(dir string) (flags uint32, ok bool) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	if names, err := f.Readdirnames(1); len(names) > 0 || !errors.Is(err, io.EOF) {
		return 0, false
	}
	if n, err := unix.Flistxattr(int(f.Fd()), nil); n != 0 || err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return 0, false
	}
	flags, err = unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	return flags, err == nil || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP)
}
