package layers

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sparesMade is how many writable layers are made ahead, sparesKept how many wait at most.
	sparesMade = 8
	sparesKept = 16
	// With more than sparesLow left new ones wait for sparesPause, until the create in hand is over.
	sparesLow   = 2
	sparesPause = 10 * time.Millisecond
)

// spares are writable layers for the stack of layers that was used last, each four empty inodes. Making and
// deleting these costs a file system more than all the rest of create, giving them a name next to
// nothing. A removed container's layer that nothing was ever written to becomes a spare one, too.
type spares struct {
	mu      sync.Mutex
	chain   string
	ready   []string
	made    uint64
	filling sync.WaitGroup
	busy    bool
	closed  bool
}

// take moves a spare layer for chain to dir, and tells whether there was one.
func (s *Store) take(chain, dir string) bool {
	p := &s.spare
	p.mu.Lock()
	var from string
	if n := len(p.ready); n > 0 && p.chain == chain {
		from, p.ready = p.ready[n-1], p.ready[:n-1]
	}
	p.mu.Unlock()
	return from != "" && os.Rename(from, dir) == nil
}

// restock makes spare layers like c's in the background.
func (s *Store) restock(c *container) {
	p := &s.spare
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.chain != c.chain {
		for _, d := range p.ready {
			_ = s.discard(d)
		}
		p.chain, p.ready = c.chain, nil
	}
	if p.busy || p.closed || len(p.ready) >= sparesMade {
		return
	}
	p.busy = true
	wait := time.Duration(0)
	if len(p.ready) > sparesLow {
		wait = sparesPause
	}
	p.filling.Go(func() {
		time.Sleep(wait)
		s.fill(c.chain)
	})
}

func (s *Store) fill(chain string) {
	p := &s.spare
	for {
		p.mu.Lock()
		if p.closed || p.chain != chain || len(p.ready) >= sparesMade {
			p.busy = false
			p.mu.Unlock()
			return
		}
		p.made++
		dir := filepath.Join(s.dir, "spare", strconv.FormatUint(p.made, 10))
		p.mu.Unlock()
		err := s.makeOverlay(&container{dir: dir, chain: chain})
		p.mu.Lock()
		switch {
		case err != nil: // create makes its own, and says what is wrong
			_ = s.discard(dir)
			p.busy = false
			p.mu.Unlock()
			return
		case p.chain != chain || p.closed:
			_ = s.discard(dir)
		default:
			p.ready = append(p.ready, dir)
		}
		p.mu.Unlock()
	}
}

// reuse makes a removed container's layer a spare one, and tells whether it did. Only what is exactly as it was
// made qualifies: no file, no whiteout, no attribute, the image's own mode and owner.
func (s *Store) reuse(w waste) bool {
	upper := filepath.Join(w.dir, "upper")
	// Overlayfs gives each upper directory a name of its own at its first mount.
	if err := unix.Removexattr(upper, "trusted.overlay.uuid"); err != nil && !errors.Is(err, unix.ENODATA) {
		return false
	}
	if !pristine(upper) || os.RemoveAll(filepath.Join(w.dir, "work", "work")) != nil || !pristine(filepath.Join(w.dir, "work")) {
		return false
	}
	lower := s.lower(&container{chain: w.chain})
	if len(lower) == 0 || likeRoot(upper, lower[0]) != nil {
		return false
	}
	p := &s.spare
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.chain != w.chain || len(p.ready) >= sparesKept {
		return false
	}
	p.made++
	dir := filepath.Join(s.dir, "spare", strconv.FormatUint(p.made, 10))
	if os.Rename(w.dir, dir) != nil {
		return false
	}
	p.ready = append(p.ready, dir)
	return true
}

// pristine tells whether a directory is empty and has no attributes.
func pristine(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	if names, err := f.Readdirnames(1); len(names) > 0 || !errors.Is(err, io.EOF) {
		return false
	}
	if n, err := unix.Flistxattr(int(f.Fd()), nil); n != 0 || err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return false
	}
	const set = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND | unix.STATX_ATTR_NODUMP | unix.STATX_ATTR_COMPRESSED | unix.STATX_ATTR_ENCRYPTED
	var st unix.Statx_t
	err = unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, 0, &st)
	return err == nil && st.Attributes&set == 0
}

// closeSpares deletes them; those of a killed daemon are deleted at Open.
func (s *Store) closeSpares() {
	s.spare.mu.Lock()
	s.spare.closed = true
	s.spare.mu.Unlock()
	s.spare.filling.Wait()
	for _, d := range s.spare.ready {
		_ = os.RemoveAll(d)
	}
	s.spare.ready = nil
}
