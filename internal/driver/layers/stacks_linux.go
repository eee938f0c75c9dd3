package layers

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/kit/keylock"
)

// layer is one unpacked directory: a layer alone, or (Chain) what it becomes on top of others.
type layer struct {
	Size     int64         `json:"size"`           // sum of file sizes
	Disk     int64         `json:"disk,omitempty"` // what the directory takes on disk, in bytes; 0 is not known
	Entries  int64         `json:"entries"`
	Chain    bool          `json:"chain,omitempty"`
	Implied  bool          `json:"implied,omitempty"`  // has folders that its archive does not describe
	Recorded bool          `json:"recorded,omitempty"` // its archive can be made again
	Diff     digest.Digest `json:"diff,omitempty"`     // with Chain: the uppermost layer's diff ID
	Lazy     bool          `json:"lazy,omitempty"`     // its files are served from elsewhere
}

// chain is an image's stack of directories.
type chain struct {
	DiffIDs []digest.Digest `json:"diffIDs"`
	Dirs    []string        `json:"dirs"` // names below layers/, lowest first
}

// stacks are the layers of images, each once, and which of them stand on which.
type stacks struct {
	*folders
	locks keylock.Locker // by layer directory: it is unpacked once
	lazy  lazy

	mu     sync.Mutex
	layers map[string]*layer
	chains map[string]*chain
	held   map[string]int // layer directories and chains in use by Unpack and its callers
	pinned map[string]int // chains, by containers
}

// pin keeps a chain for a container, and tells whether it is there.
func (s *stacks) pin(chain string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if chain == emptyChain {
		return true
	}
	if s.chains[chain] == nil {
		return false
	}
	s.pinned[chain]++
	return true
}

func (s *stacks) unpin(chain string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pinned[chain]--; s.pinned[chain] <= 0 {
		delete(s.pinned, chain)
	}
}

// lower lists the directories of a chain, on which a container stands, uppermost first. The stubs are below all.
func (s *stacks) lower(chain string) []string {
	if chain == emptyChain {
		dirs := []string{filepath.Join(s.dir, "empty")}
		if s.driver == DriverOverlay {
			dirs = append(dirs, s.stubDir())
		}
		return dirs
	}
	ch := s.chain(chain)
	if ch == nil {
		return nil
	}
	if s.driver == DriverCopy {
		return []string{s.layerFS(ch.Dirs[len(ch.Dirs)-1])}
	}
	var dirs []string
	for _, d := range slices.Backward(ch.Dirs) {
		dirs = append(dirs, s.layerFS(d))
	}
	return append(dirs, s.stubDir())
}

func (s *stacks) load(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		l := &layer{}
		b, err := os.ReadFile(filepath.Join(s.dir, "layers", e.Name(), "meta"))
		if err == nil {
			err = json.Unmarshal(b, l)
		}
		if err != nil { // never finished: the file is written before the directory gets its name
			if err := s.trash.discard(filepath.Join(s.dir, "layers", e.Name())); err != nil {
				return err
			}
			continue
		}
		if l.Lazy {
			if err := s.lazy.relink(s.layerFS(e.Name())); err != nil {
				return err
			}
		}
		s.layers[e.Name()] = l
	}
	return errors.Join(s.loadChains(), context.Cause(ctx))
}

func (s *stacks) loadChains() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "chains"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := filepath.Join(s.dir, "chains", e.Name())
		c := &chain{}
		b, err := os.ReadFile(p)
		if err == nil {
			err = json.Unmarshal(b, c)
		}
		whole := err == nil
		for _, d := range c.Dirs {
			whole = whole && s.layers[d] != nil
		}
		if !whole { // a temporary file, or one whose layers are gone
			if err := os.Remove(p); err != nil {
				return err
			}
			continue
		}
		s.chains[e.Name()] = c
	}
	return nil
}

func (s *stacks) hold(names []string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range names {
		if s.held[d] += n; s.held[d] == 0 {
			delete(s.held, d)
		}
	}
}

func (s *stacks) chain(name string) *chain {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chains[name]
}

func (s *stacks) layer(name string) *layer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.layers[name]
}

// Disk is what a layer's directory takes, by its name, in bytes, if that was measured.
func (s *stacks) Disk(name string) (int64, bool) {
	l := s.layer(name)
	if l == nil {
		return 0, false
	}
	return l.Disk, l.Disk > 0
}

// Unpacked implements images.Layers.
func (s *stacks) Unpacked(diffIDs []digest.Digest) (sizes []int64, ok bool) {
	if len(diffIDs) == 0 {
		return nil, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.chains[chainName(diffIDs)]
	if c == nil {
		return nil, false
	}
	for _, d := range c.Dirs {
		sizes = append(sizes, s.layers[d].Size)
	}
	return sizes, true
}

// Collect implements images.Layers.
func (s *stacks) Collect(ctx context.Context, keep [][]digest.Digest) (freed int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := map[string]bool{}
	for _, k := range keep {
		live[chainName(k)] = true
	}
	for c := range s.pinned {
		live[c] = true
	}
	used := map[string]bool{}
	for name, c := range s.chains {
		if live[name] || s.held[name] > 0 {
			for _, d := range c.Dirs {
				used[d] = true
			}
			continue
		}
		if err := os.Remove(filepath.Join(s.dir, "chains", name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return freed, err
		}
		delete(s.chains, name)
		failpoint.Hit("gantryd.gc-chain")
	}
	for name, l := range s.layers {
		if used[name] || s.held[name] > 0 {
			continue
		}
		if l.Lazy {
			s.leaveSoon(name)
			continue
		}
		if err := s.trash.discard(filepath.Join(s.dir, "layers", name)); err != nil {
			return freed, err
		}
		failpoint.Hit("gantryd.gc-layer")
		delete(s.layers, name)
		freed += l.Size
	}
	return freed, context.Cause(ctx)
}
