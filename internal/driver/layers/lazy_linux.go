package layers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/service/images"
)

// lazySuffix ends the names of layers that are not here yet.
const lazySuffix = ".lazy"

// lazyName is the name of a layer as it is served, until it is here and has the name of its diff ID.
func lazyName(d digest.Digest) string { return d.Encoded() + lazySuffix }

// lazy is what the store knows of layers that are served from elsewhere (driver/lazy). Such a layer has a directory as all
// others, but its "fs" is a link to the mount. When the layer is here, the stacks that stand on it are made again, with
// the layer's own directory, and nothing names the other one any more. Containers that run keep the one they began with.
type lazy struct {
	mounts string
	tell   func(diffID digest.Digest)

	leaving map[string]bool // guarded by stacks.mu
}

// gone tells that nothing stands on a layer as it is served.
func (z lazy) gone(name string) {
	if z.tell != nil {
		go z.tell(digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(name, lazySuffix)))
	}
}

// relink leads a layer to its mount below the folder of today's: the exec root may be another one than yesterday.
func (z lazy) relink(fs string) error {
	to, err := os.Readlink(fs)
	if err != nil {
		return fmt.Errorf("a layer that is served: %w", err)
	}
	want := filepath.Join(z.mounts, filepath.Base(to))
	if z.mounts == "" || want == to {
		return nil
	}
	tmp := fs + ".new"
	_ = os.Remove(tmp)
	if err := os.Symlink(want, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, fs)
}

// serves tells whether the stack will do: no layer is served from elsewhere that could be here.
func (c *chain) serves(ls []images.Layer) bool {
	for i, d := range c.Dirs {
		if strings.HasSuffix(d, lazySuffix) && ls[i].Served.Dir == "" {
			return false
		}
	}
	return true
}

// serve takes a layer as it is served.
func (u *unpacking) serve(i int) error {
	l := u.layers[i]
	name := lazyName(l.DiffID)
	if u.s.layer(name) != nil || u.find(name) != nil {
		u.dirs[i] = name
		return nil
	}
	tmp, err := u.s.temp()
	if err != nil {
		return err
	}
	if err := os.Symlink(l.Served.Dir, filepath.Join(tmp, "fs")); err != nil {
		return err
	}
	u.add(i, tmp, name, &layer{Size: l.Served.Size, Entries: l.Served.Entries, Lazy: true})
	return nil
}

// lazyGrace is how long a layer stays as it is served when its stacks have the layer itself: a container that is being started may have
// been told of the former, and mounts it a moment later.
const lazyGrace = 5 * time.Second

// leaveSoon takes a layer that is served away, in a while, if nothing stands on it then either. The caller holds mu.
func (s *stacks) leaveSoon(name string) {
	if s.lazy.leaving[name] {
		return
	}
	s.lazy.leaving[name] = true
	time.AfterFunc(lazyGrace, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.lazy.leaving, name)
		used := s.held[name] > 0 || s.layers[name] == nil
		for _, c := range s.chains {
			used = used || slices.Contains(c.Dirs, name)
		}
		if used || s.trash.discard(filepath.Join(s.dir, "layers", name)) != nil {
			return // the next collection looks again
		}
		delete(s.layers, name)
		s.lazy.gone(name)
	})
}

// Here tells whether a layer is unpacked, under its diff ID.
func (s *stacks) Here(d digest.Digest) bool { return s.layer(d.Encoded()) != nil }

// Served lists the layers that are served from elsewhere.
func (s *stacks) Served() (diffIDs []digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, l := range s.layers {
		if l.Lazy {
			diffIDs = append(diffIDs, digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(name, lazySuffix)))
		}
	}
	return diffIDs
}
