package recall

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// Layer is a layer of an image that is unpacked: its blob and what that is the archive of.
type Layer struct {
	Blob   ocispec.Descriptor
	DiffID digest.Digest
}

// Dropper drops blobs in the background, one image after the other.
type Dropper struct {
	layers Layers
	shelf  Shelf
	blobs  content.Provider
	log    *slog.Logger

	mu      sync.Mutex
	queue   [][]Layer
	working bool
	closed  bool
	kept    map[digest.Digest]bool // looked at: they cannot be made again
	idle    *sync.Cond
	ctx     context.Context //nolint:containedctx // of the work in the background, until Close
	cancel  context.CancelFunc
}

// NewDropper gives a Dropper without work.
func NewDropper(l Layers, s Shelf, blobs content.Provider, log *slog.Logger) *Dropper {
	d := &Dropper{layers: l, shelf: s, blobs: blobs, log: log, kept: map[digest.Digest]bool{}}
	d.idle = sync.NewCond(&d.mu)
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Offer has an image's layers looked at. ctx only has what the store needs.
func (d *Dropper) Offer(ctx context.Context, image []Layer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.queue = append(d.queue, image)
	if !d.working {
		d.working = true
		go d.work(context.WithoutCancel(ctx))
	}
}

// Wait waits until there is no work left.
func (d *Dropper) Wait() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.working {
		d.idle.Wait()
	}
}

// Close ends the work; what was not done is offered again after the next start.
func (d *Dropper) Close() {
	d.mu.Lock()
	d.closed, d.queue = true, nil
	d.mu.Unlock()
	d.cancel()
	d.Wait()
}

func (d *Dropper) next() []Layer {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 {
		d.working = false
		d.idle.Broadcast()
		return nil
	}
	image := d.queue[0]
	d.queue = d.queue[1:]
	return image
}

func (d *Dropper) work(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(d.ctx, cancel)()
	for image := d.next(); image != nil; image = d.next() {
		if err := d.image(ctx, image); err != nil && ctx.Err() == nil {
			d.log.Warn("blobs that are there a second time, unpacked, were kept", "error", err)
		}
	}
}

// image drops what it can of an image's blobs.
func (d *Dropper) image(ctx context.Context, image []Layer) error {
	var list []Blob
	var errs []error
	for _, l := range image {
		r, ok := d.recipe(ctx, l)
		if !ok {
			continue
		}
		err := d.prove(ctx, l, r)
		if err == nil {
			list = append(list, Blob{l.Blob.Digest, r})
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if !errdefs.IsNotFound(err) { // else it may come yet, or has gone
			d.keep(l.Blob.Digest)
			errs = append(errs, lost(l.Blob, err))
		}
	}
	if len(list) == 0 {
		return errors.Join(errs...)
	}
	failpoint.Hit("gantryd.drop-proven")
	return errors.Join(append(errs, d.shelf.Drop(ctx, list))...)
}

// recipe is how a blob could be made again, if it may go.
func (d *Dropper) recipe(ctx context.Context, l Layer) (Recipe, bool) {
	if _, dropped := d.shelf.Recipe(l.Blob.Digest); dropped || d.isKept(l.Blob.Digest) {
		return Recipe{}, false
	}
	r := Recipe{DiffID: l.DiffID, Plain: l.Blob.Digest == l.DiffID}
	if !r.Plain {
		r.Source = d.shelf.Source(ctx, l.Blob.Digest)
		c, err := d.codec(ctx, l)
		if err == nil && c == nil && r.Source == "" {
			d.keep(l.Blob.Digest) // nothing will ever make it again
		}
		r.Codec = c
	}
	return r, r.Plain || r.Source != "" || r.Codec != nil
}

// codec is by what a blob seems to have been compressed, or nil. An error says that this is not known now: the blob or the layer is not here.
func (d *Dropper) codec(ctx context.Context, l Layer) (*Codec, error) {
	ra, err := d.blobs.ReaderAt(ctx, l.Blob)
	if err != nil {
		return nil, err
	}
	defer ra.Close()
	head := make([]byte, min(gzipHeader, l.Blob.Size))
	if _, err := ra.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !ours(head) {
		return nil, nil //nolint:nilnil // see above
	}
	head = make([]byte, min(sample, l.Blob.Size))
	if _, err := ra.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	tar, err := d.layers.Peek(ctx, l.DiffID)
	if err != nil {
		return nil, err
	}
	defer tar.Close()
	raw, err := io.ReadAll(io.LimitReader(tar, sample))
	if err != nil {
		return nil, err
	}
	return identify(head, raw)
}

// prove makes a layer's archive again, and, if nobody gives it, the blob. A codec that was only guessed is no harm where there is a source.
func (d *Dropper) prove(ctx context.Context, l Layer, r Recipe) error {
	if r.Plain || r.Source != "" {
		return d.layers.Prove(ctx, l.DiffID)
	}
	err := compress(ctx, d.layers.Peek, io.Discard, l.Blob, r)
	if err == nil {
		return nil
	}
	if tar, gone := d.layers.Peek(ctx, l.DiffID); gone != nil {
		err = errors.Join(gone, err) // it was collected meanwhile
	} else {
		_ = tar.Close()
	}
	return err
}

func (d *Dropper) keep(b digest.Digest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept[b] = true
}

func (d *Dropper) isKept(b digest.Digest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kept[b]
}
