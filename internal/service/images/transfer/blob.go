package transfer

import (
	"context"
	"io"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// File is the file of a blob on its way in. Close keeps what is there for the next download.
type File interface {
	io.Writer
	io.ReaderAt
	io.Closer
	// Size is how many bytes are here.
	Size() int64
	// Reset drops them.
	Reset() error
	// Discard drops the file; what is open stays readable until Close.
	Discard() error
}

// Stage is how far a blob is.
type Stage uint8

// The stages, in their order.
const (
	Waiting Stage = iota
	Downloading
	Verifying
	Arrived
)

// Blob is one blob on its way in. Any number may read it meanwhile; one writes.
type Blob struct {
	Desc ocispec.Descriptor

	users  int  // guarded by Transfers.mu
	futile bool // guarded by Transfers.mu: what came in is not kept
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed at the next change
	file    File
	stage   Stage
	at      int64 // bytes that are here
	err     error // it failed
}

// Into is a blob that its owner writes into a file, to End or Fail.
func Into(f File) *Blob {
	return &Blob{changed: make(chan struct{}), file: f, stage: Downloading}
}

// Write implements io.Writer.
func (b *Blob) Write(p []byte) (int, error) {
	n, err := b.file.Write(p)
	b.change(func() { b.at += int64(n) })
	return n, err
}

// End tells that all is here.
func (b *Blob) End() { b.change(func() { b.stage = Arrived }) }

// Fail tells that no more will come.
func (b *Blob) Fail(err error) { b.change(func() { b.err = err }) }

// change does something to the state, and wakes who waits for it.
func (b *Blob) change(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	do()
	close(b.changed)
	b.changed = make(chan struct{})
}

// State is how far the blob is, with the bytes that are here; changed is closed when that is no longer so.
func (b *Blob) State() (s Stage, at int64, changed <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stage, b.at, b.changed, b.err
}

// Wait waits until the blob is here, and verified if it was joined.
func (b *Blob) Wait(ctx context.Context) error {
	for {
		s, _, changed, err := b.State()
		if err != nil || s == Arrived {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Reader reads a blob from its beginning, and waits for what is still to come.
type Reader struct {
	ctx  context.Context //nolint:containedctx // of the reading
	blob *Blob
	pos  int64
}

// Reader gives one more.
func (b *Blob) Reader(ctx context.Context) *Reader { return &Reader{ctx: ctx, blob: b} }

// Arrived tells whether the whole blob is here.
func (r *Reader) Arrived() bool {
	s, _, _, _ := r.blob.State()
	return s == Arrived
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for {
		s, at, changed, err := r.blob.State()
		switch {
		case r.pos < at:
			n, err := r.blob.file.ReadAt(p[:min(int64(len(p)), at-r.pos)], r.pos)
			r.pos += int64(n)
			if n > 0 {
				err = nil
			}
			return n, err
		case err != nil:
			return 0, err
		case s == Arrived:
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
}
