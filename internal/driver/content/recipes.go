package content

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	ccontent "github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/service/images/recall"
)

// recipes are the blobs without a file. It implements recall.Shelf.
type recipes struct {
	records  *records
	incoming *incoming
	shelf    *shelf
	moving   *sync.RWMutex // see files
}

// MakeBy has blobs without a file made by m. It is called once, before the first request.
func (r *recipes) MakeBy(m BlobMaker) { r.shelf.maker = m }

// Recipe implements recall.Shelf.
func (r *recipes) Recipe(d digest.Digest) (recall.Recipe, bool) {
	e, ok := r.shelf.get(d)
	return e.recipe, ok
}

// Spared is what blobs without a file would take, in bytes.
func (r *recipes) Spared() (n int64) {
	r.shelf.mu.RLock()
	defer r.shelf.mu.RUnlock()
	for _, e := range r.shelf.dropped {
		n += e.size
	}
	return n
}

// Source implements recall.Shelf.
func (r *recipes) Source(ctx context.Context, d digest.Digest) string {
	i, err := r.records.Blobs().Info(r.records.Context(ctx), d)
	if err != nil {
		return ""
	}
	return i.Labels[sourceLabel]
}

// Drop implements recall.Shelf.
func (r *recipes) Drop(ctx context.Context, list []recall.Blob) error {
	gone := map[digest.Digest]entry{}
	r.moving.RLock() // between the commit and what follows, Collect would leave a recipe without a record
	defer r.moving.RUnlock()
	err := r.records.Update(ctx, func(ctx context.Context) error {
		for _, b := range list {
			label, err := json.Marshal(b.Recipe)
			if err != nil {
				return err
			}
			i, err := r.records.Blobs().Update(ctx, ccontent.Info{Digest: b.Digest, Labels: map[string]string{recipeLabel: string(label)}}, "labels."+recipeLabel)
			switch {
			case errdefs.IsNotFound(err):
			case err != nil:
				return fmt.Errorf("recording how the blob %s is made again: %w", b.Digest, err)
			default:
				gone[b.Digest] = entry{i.Size, b.Recipe}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	failpoint.Hit("gantryd.drop-recorded")
	var errs []error
	for d, e := range gone {
		r.shelf.set(d, e)
		errs = append(errs, r.shelf.unlink(d))
	}
	return errors.Join(errs...)
}

// Enter implements recall.Shelf.
func (r *recipes) Enter(ctx context.Context, d ocispec.Descriptor, how recall.Recipe) error {
	label, err := json.Marshal(how)
	if err != nil {
		return err
	}
	if _, err := r.records.Blobs().Info(ctx, d.Digest); err == nil {
		return r.records.Update(ctx, func(ctx context.Context) error {
			return r.records.register(ctx, images.Arrival{Digest: d.Digest, Size: d.Size})
		})
	}
	r.moving.RLock()
	defer r.moving.RUnlock()
	r.shelf.set(d.Digest, entry{d.Size, how})
	err = r.records.Update(ctx, func(ctx context.Context) error {
		return r.records.register(ctx, images.Arrival{Digest: d.Digest, Size: d.Size, Labels: map[string]string{recipeLabel: string(label)}})
	})
	if err != nil {
		r.shelf.unset(d.Digest)
	}
	return err
}

// Scratch implements recall.Shelf. The file has no name.
func (r *recipes) Scratch() (recall.Scratch, error) {
	f, err := os.CreateTemp(r.incoming.dir, "made-")
	if err != nil {
		return nil, fmt.Errorf("making a file for a blob: %w", err)
	}
	return scratch{f}, os.Remove(f.Name())
}

type scratch struct{ *os.File }

func (f scratch) Reset() error {
	_, err := f.Seek(0, io.SeekStart)
	return errors.Join(err, f.Truncate(0))
}
