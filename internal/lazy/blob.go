package lazy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// Source is where a blob's bytes come from: a registry.
type Source interface {
	// Span reads the bytes [from, to). errdefs.ErrNotImplemented says that no parts are to be had.
	Span(ctx context.Context, from, to int64) (io.ReadCloser, error)
	// All reads the whole blob.
	All(ctx context.Context) (io.ReadCloser, error)
}

// block is the unit in which bytes are here or not.
const block = 64 << 10

// aheadBlocks bounds how much more than was asked for a read fetches where it goes on from what is here.
const aheadBlocks = 4

// blob is the bytes of a layer that are here: a file of the blob's size with holes, and a bit for each block.
type blob struct {
	ctx  context.Context // of what is fetched, whoever waits for it
	size int64
	file *os.File
	note *os.File // the bits on disk; nil when the blob was whole from the start
	src  Source

	mu      sync.Mutex
	have    []byte // a bit per block
	missing int    // blocks
	pending map[int64]*run
	fetched int64 // bytes that came in with this process
}

// run is blocks on their way in.
type run struct {
	changed chan struct{} // closed when a block came in, or at the end
	over    bool
	err     error
}

func newBlob(ctx context.Context, size int64, file, note *os.File, src Source) (*blob, error) {
	b := &blob{ctx: ctx, size: size, file: file, note: note, src: src, pending: map[int64]*run{}}
	b.have = make([]byte, (b.blocks()+7)/8)
	b.missing = int(b.blocks())
	if note == nil {
		b.missing = 0
		for i := range b.have {
			b.have[i] = 0xff
		}
		return b, nil
	}
	if err := file.Truncate(size); err != nil {
		return nil, err
	}
	if _, err := note.ReadAt(b.have, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if n := b.blocks() % 8; n > 0 {
		b.have[len(b.have)-1] &= 1<<n - 1
	}
	for _, bite := range b.have {
		b.missing -= bits.OnesCount8(bite)
	}
	return b, nil
}

func (b *blob) blocks() int64 { return (b.size + block - 1) / block }

func (b *blob) has(i int64) bool { return b.have[i/8]&(1<<(i%8)) != 0 }

// present is how many bytes are here, to a block.
func (b *blob) present() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size - min(b.size, int64(b.missing)*block)
}

// whole tells whether all bytes are here. That they are the right ones is another question.
func (b *blob) whole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.missing == 0
}

// covers tells whether the bytes [from, to) are here.
func (b *blob) covers(from, to int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := from / block; i < (to+block-1)/block; i++ {
		if !b.has(i) {
			return false
		}
	}
	return true
}

// ensure waits until the bytes [from, to) are here, and fetches what nobody fetches yet.
func (b *blob) ensure(ctx context.Context, from, to int64) error {
	lo, hi := from/block, (to+block-1)/block
	for {
		b.mu.Lock()
		i := lo
		for i < hi && b.has(i) {
			i++
		}
		if i >= hi {
			b.mu.Unlock()
			return nil
		}
		r := b.pending[i]
		if r == nil {
			r = b.begin(i, hi)
		}
		changed := r.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		b.mu.Lock()
		failed := r.over && r.err != nil && !b.has(i)
		b.mu.Unlock()
		if failed {
			return r.err
		}
	}
}

// begin fetches blocks from i on: up to hi, and some more where the blocks before are here, as a reader is likely to go
// on. The caller holds mu.
func (b *blob) begin(i, hi int64) *run {
	ahead := int64(0)
	for ahead < aheadBlocks && i-ahead > 0 && b.has(i-ahead-1) {
		ahead++
	}
	end := i
	for end < min(hi+ahead, b.blocks()) && !b.has(end) && b.pending[end] == nil {
		end++
	}
	r := &run{changed: make(chan struct{})}
	for k := i; k < end; k++ {
		b.pending[k] = r
	}
	go b.fetch(r, i, end)
	return r
}

// How often a transfer that breaks off without a byte is taken up again, and how long is waited before.
const (
	attempts  = 5
	firstWait = 200 * time.Millisecond
)

// fetch gets the blocks [i, end).
func (b *blob) fetch(r *run, i, end int64) {
	var err error
	for try := 0; i < end; {
		var next int64
		next, err = b.stream(r, i, end)
		if next > i {
			try = 0
		}
		i = next
		if i == end {
			break
		}
		if try++; try >= attempts || b.ctx.Err() != nil || lasting(err) {
			break
		}
		select {
		case <-time.After(firstWait << try):
		case <-b.ctx.Done():
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := i; k < end; k++ {
		delete(b.pending, k)
	}
	r.over = true
	if i < end {
		r.err = err
	}
	close(r.changed)
}

// lasting tells whether a registry's answer would be the same a moment later. What may pass it has asked for again itself.
func lasting(err error) bool {
	return errdefs.IsNotImplemented(err) || errdefs.IsNotFound(err) || errdefs.IsPermissionDenied(err) || errdefs.IsUnauthorized(err) || errdefs.IsInvalidArgument(err)
}

// stream reads blocks from one answer; it gives the first one that did not come.
func (b *blob) stream(r *run, i, end int64) (int64, error) {
	body, err := b.src.Span(b.ctx, i*block, min(end*block, b.size))
	if err != nil {
		return i, err
	}
	defer body.Close()
	buf := make([]byte, block)
	for ; i < end; i++ {
		p := buf[:min(block, b.size-i*block)]
		if _, err := io.ReadFull(body, p); err != nil {
			return i, fmt.Errorf("the registry broke off at byte %d: %w", i*block, err)
		}
		if err := b.store(i, p); err != nil {
			return i, err
		}
		b.mu.Lock()
		delete(b.pending, i)
		if i+1 < end {
			close(r.changed)
			r.changed = make(chan struct{})
		}
		b.mu.Unlock()
	}
	return i, nil
}

// store writes a block and marks it, in this order: after a crash it may be fetched again, never be taken for here.
func (b *blob) store(i int64, p []byte) error {
	b.mu.Lock()
	known := b.has(i)
	b.mu.Unlock()
	if known {
		return nil
	}
	if _, err := b.file.WriteAt(p, i*block); err != nil {
		return fmt.Errorf("writing a layer's bytes: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.has(i) {
		b.have[i/8] |= 1 << (i % 8)
		b.missing--
		b.fetched += int64(len(p))
	}
	_, err := b.note.WriteAt(b.have[i/8:i/8+1], i/8)
	return err
}

// forget drops the blocks of [from, to): what is in them is not what it should be.
func (b *blob) forget(from, to int64) error {
	if b.note == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := from / block; i < (to+block-1)/block; i++ {
		if !b.has(i) {
			continue
		}
		b.have[i/8] &^= 1 << (i % 8)
		b.missing++
		if _, err := b.note.WriteAt(b.have[i/8:i/8+1], i/8); err != nil {
			return err
		}
	}
	return nil
}

// gap finds the first blocks that are neither here nor on their way, at most n, from block i on; none if begin equals end.
func (b *blob) gap(i, n int64) (begin, end int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i < b.blocks() && (b.has(i) || b.pending[i] != nil) {
		i++
	}
	end = i
	for end < min(i+n, b.blocks()) && !b.has(end) && b.pending[end] == nil {
		end++
	}
	return i, end
}

// takeAll reads the blob from its beginning, from a registry that gives no parts.
func (b *blob) takeAll(ctx context.Context) error {
	body, err := b.src.All(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	buf := make([]byte, block)
	for i := range b.blocks() {
		p := buf[:min(block, b.size-i*block)]
		if _, err := io.ReadFull(body, p); err != nil {
			return fmt.Errorf("the registry broke off at byte %d: %w", i*block, err)
		}
		if err := b.store(i, p); err != nil {
			return err
		}
	}
	return nil
}
