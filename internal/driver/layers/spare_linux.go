package layers

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// sparesKept is how many writable layers wait to be taken. Each is four empty inodes.
const sparesKept = 4

// spares are writable layers made ahead of time for the stack of layers that was used last: making the
// directories costs a file system more than all the rest of create, giving them a name next to nothing.
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
	if p.busy || p.closed || len(p.ready) >= sparesKept {
		return
	}
	p.busy = true
	p.filling.Go(func() { s.fill(c.chain) })
}

func (s *Store) fill(chain string) {
	p := &s.spare
	for {
		p.mu.Lock()
		if p.closed || p.chain != chain || len(p.ready) >= sparesKept {
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
