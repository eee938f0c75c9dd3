package layers

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/sys/tarfs"
)

// staged is a layer that was unpacked before anybody knew which image it is of. It implements images.Staged.
type staged struct {
	s      *stacks
	x      extracted
	diffID digest.Digest
	once   sync.Once
}

// Stage implements images.Layers.
func (s *stacks) Stage(ctx context.Context, open func(ctx context.Context) (io.ReadCloser, error)) (images.Staged, error) {
	if s.driver != DriverOverlay {
		return nil, nil //nolint:nilnil // without overlayfs each layer stands on those below
	}
	x, id, err := s.extract(ctx, open, func(tmp string) (*os.File, error) {
		return tarfs.OpenRoot(filepath.Join(tmp, "fs"))
	}, tarfs.Overlay)
	if err != nil {
		return nil, err
	}
	return &staged{s: s, x: x, diffID: id}, nil
}

// DiffID implements images.Staged.
func (g *staged) DiffID() digest.Digest { return g.diffID }

// Discard implements images.Staged.
func (g *staged) Discard() {
	g.once.Do(func() { _ = g.s.trash.discard(g.x.tmp) })
}

// take gives what was unpacked away, once.
func (g *staged) take() (x extracted, ok bool) {
	g.once.Do(func() { x, ok = g.x, true })
	return x, ok
}
