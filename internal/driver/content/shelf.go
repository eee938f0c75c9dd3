package content

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	ccontent "github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/images/recall"
)

// The labels of blobs that concern their files.
const (
	recipeLabel = "gantry.dev/recipe" // the blob has no file: a recall.Recipe as JSON
	sourceLabel = "gantry.dev/source" // the repository that gave the blob to everybody
)

// BlobMaker makes a blob again that has no file. Implemented by service/images/recall.
type BlobMaker interface {
	Open(ctx context.Context, d ocispec.Descriptor, r recall.Recipe) (ccontent.ReaderAt, error)
}

// shelf is the store of files below containerd's metadata, in which a blob may be a recipe instead of a file: it is
// reported as there, and made again when it is read. The recipes are labels of the metadata's records, read once at the start.
type shelf struct {
	ccontent.Store
	dir   string // of the files
	maker BlobMaker

	mu      sync.RWMutex
	dropped map[digest.Digest]entry
}

type entry struct {
	size   int64
	recipe recall.Recipe
}

var _ ccontent.Store = (*shelf)(nil)

func openShelf(dir string) (*shelf, error) {
	files, err := local.NewStore(dir)
	if err != nil {
		return nil, err
	}
	return &shelf{Store: files, dir: dir, dropped: map[digest.Digest]entry{}}, nil
}

// load takes over the recipes that the metadata has. A file that a crash has left beside one goes.
func (s *shelf) load(ctx context.Context, meta ccontent.Manager) error {
	return meta.Walk(ctx, func(i ccontent.Info) error {
		var r recall.Recipe
		if err := json.Unmarshal([]byte(i.Labels[recipeLabel]), &r); err != nil {
			return fmt.Errorf("the record of blob %s: %w", i.Digest, err)
		}
		s.set(i.Digest, entry{i.Size, r})
		return s.unlink(i.Digest)
	}, "labels.\""+recipeLabel+"\"")
}

func (s *shelf) get(d digest.Digest) (entry, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.dropped[d]
	return e, ok
}

func (s *shelf) set(d digest.Digest, e entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped[d] = e
}

func (s *shelf) unset(d digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dropped, d)
}

func (s *shelf) path(d digest.Digest) string {
	return filepath.Join(s.dir, "blobs", d.Algorithm().String(), d.Encoded())
}

// unlink removes a blob's file. Who has it open reads on.
func (s *shelf) unlink(d digest.Digest) error {
	if err := os.Remove(s.path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Info implements content.Store.
func (s *shelf) Info(ctx context.Context, d digest.Digest) (ccontent.Info, error) {
	if e, ok := s.get(d); ok {
		return ccontent.Info{Digest: d, Size: e.size}, nil
	}
	return s.Store.Info(ctx, d)
}

// Walk implements content.Store.
func (s *shelf) Walk(ctx context.Context, fn ccontent.WalkFunc, filters ...string) error {
	if err := s.Store.Walk(ctx, fn, filters...); err != nil {
		return err
	}
	s.mu.RLock()
	var list []ccontent.Info
	for d, e := range s.dropped {
		list = append(list, ccontent.Info{Digest: d, Size: e.size})
	}
	s.mu.RUnlock()
	for _, i := range list {
		if err := fn(i); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements content.Store.
func (s *shelf) Delete(ctx context.Context, d digest.Digest) error {
	if _, ok := s.get(d); !ok {
		return s.Store.Delete(ctx, d)
	}
	s.unset(d)
	return s.unlink(d)
}

// ReaderAt implements content.Store.
func (s *shelf) ReaderAt(ctx context.Context, d ocispec.Descriptor) (ccontent.ReaderAt, error) {
	ra, err := s.Store.ReaderAt(ctx, d)
	if !errdefs.IsNotFound(err) {
		return ra, err
	}
	e, ok := s.get(d.Digest)
	if !ok || s.maker == nil {
		return nil, err
	}
	return s.maker.Open(ctx, ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: e.size}, e.recipe)
}

// Writer implements content.Store.
func (s *shelf) Writer(ctx context.Context, opts ...ccontent.WriterOpt) (ccontent.Writer, error) {
	w, err := s.Store.Writer(ctx, opts...)
	if err != nil {
		return nil, err
	}
	var o ccontent.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return &shelfWriter{w, s, o.Ref}, nil
}

// shelfWriter does not bring back the file of a blob that was dropped.
type shelfWriter struct {
	ccontent.Writer
	s   *shelf
	ref string
}

// Sync implements content.Syncer: containerd's metadata asks for it, so that its transaction is short.
func (w *shelfWriter) Sync() error {
	if f, ok := w.Writer.(ccontent.Syncer); ok {
		return f.Sync()
	}
	return nil
}

// Commit implements content.Writer.
func (w *shelfWriter) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...ccontent.Opt) error {
	d := w.Digest()
	e, ok := w.s.get(d)
	if !ok || expected != "" && expected != d || size > 0 && size != e.size {
		return w.Writer.Commit(ctx, size, expected, opts...)
	}
	if err := errors.Join(w.Close(), w.s.Abort(ctx, w.ref)); err != nil {
		return err
	}
	return fmt.Errorf("content %v: %w", d, errdefs.ErrAlreadyExists)
}
