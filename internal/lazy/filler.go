package lazy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// How the background yields: it begins when no read has waited for bytes for settle, but after latest in any
// case, and lets reads that wait go first, but for no longer than grace per request.
const (
	settle = time.Second
	latest = 10 * time.Second
	grace  = 2 * time.Second
)

// One request of the background takes about pace: what a read may have to wait for it on a slow link.
const (
	pace       = 200 * time.Millisecond
	fewBlocks  = 4
	manyBlocks = 128
)

// traffic lets reads that somebody waits for go before what is fetched in the background. It is one for all layers.
type traffic struct {
	turn chan struct{} // holds one while the background fetches

	mu      sync.Mutex
	reads   int // under way
	last    time.Time
	changed chan struct{}
}

func newTraffic() *traffic {
	return &traffic{turn: make(chan struct{}, 1), changed: make(chan struct{})}
}

// read begins a read that somebody waits for; done ends it.
func (t *traffic) read() (done func()) {
	t.change(1)
	return func() { t.change(-1) }
}

func (t *traffic) change(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads += n
	t.last = time.Now()
	close(t.changed)
	t.changed = make(chan struct{})
}

// quiet waits until no read has been under way for a time, but no longer than limit.
func (t *traffic) quiet(ctx context.Context, rest, limit time.Duration) error {
	end := time.Now().Add(limit)
	for {
		t.mu.Lock()
		left := rest - time.Since(t.last)
		if t.reads > 0 {
			left = limit
		}
		changed := t.changed
		t.mu.Unlock()
		left = min(left, time.Until(end))
		if left <= 0 {
			return context.Cause(ctx)
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// filler fetches what is missing of a blob, until it is whole.
type filler struct {
	blob    *blob
	tree    *tree
	digest  digest.Digest
	traffic *traffic
	tell    func(err error) // the fill stands still, or (nil) goes on again
}

// retries of a fill that failed: a registry that is down is asked again for as long as the layer is wanted.
const (
	firstRetry = 5 * time.Second
	lastRetry  = 5 * time.Minute
)

// errLie is a blob that was fetched anew and is still not what its digest says.
var errLie = fmt.Errorf("the layer's bytes are not those of its digest: %w", errdefs.ErrDataLoss)

// run fills the blob. It returns when the blob is whole and verified, when it cannot become so, or with ctx.
func (f *filler) run(ctx context.Context) error {
	wait := firstRetry
	told := false
	for {
		before := f.blob.present()
		err := f.once(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, errLie) {
			return err
		}
		if f.blob.present() > before {
			wait = firstRetry
		}
		told = true
		f.tell(err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if wait = min(2*wait, lastRetry); told {
			f.tell(nil)
		}
	}
}

// once fetches all there is to fetch, the files that the image's maker put first before all others.
func (f *filler) once(ctx context.Context) error {
	for at := int64(0); at < f.tree.first; at += manyBlocks / 8 * block {
		if err := f.blob.ensure(ctx, at, min(at+manyBlocks/8*block, f.tree.first)); err != nil {
			return err
		}
	}
	if err := f.traffic.quiet(ctx, settle, latest); err != nil {
		return err
	}
	for again := false; ; again = true {
		if err := f.rest(ctx); err != nil {
			return err
		}
		bad, err := f.verify(ctx)
		if err != nil || !bad {
			return err
		}
		if again {
			return errLie
		}
		if err := f.doubt(); err != nil {
			return err
		}
	}
}

// rest fetches what is missing, one request at a time.
func (f *filler) rest(ctx context.Context) error {
	n := int64(fewBlocks)
	for !f.blob.whole() {
		i, end := f.blob.gap(0, n)
		if i == end { // the last blocks are on their way
			if err := f.blob.ensure(ctx, 0, f.blob.size); err != nil {
				return err
			}
			continue
		}
		took, err := f.request(ctx, i, end)
		if errdefs.IsNotImplemented(err) {
			return f.blob.takeAll(ctx)
		}
		if err != nil {
			return err
		}
		switch {
		case took < pace/2:
			n = min(2*n, manyBlocks)
		case took > 2*pace:
			n = max(n/2, fewBlocks)
		}
	}
	return nil
}

func (f *filler) request(ctx context.Context, i, end int64) (time.Duration, error) {
	select {
	case f.traffic.turn <- struct{}{}:
		defer func() { <-f.traffic.turn }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if err := f.traffic.quiet(ctx, 20*time.Millisecond, grace); err != nil {
		return 0, err
	}
	begin := time.Now()
	err := f.blob.ensure(ctx, i*block, min(end*block, f.blob.size))
	return time.Since(begin), err
}

// verify hashes the blob.
func (f *filler) verify(ctx context.Context) (bad bool, err error) {
	v := f.digest.Verifier()
	buf := make([]byte, 1<<20)
	r := io.NewSectionReader(f.blob.file, 0, f.blob.size)
	for {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		n, err := r.Read(buf)
		_, _ = v.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return !v.Verified(), nil
		}
		if err != nil {
			return false, err
		}
	}
}

// doubt drops what is wrong of a blob that is whole: the chunks that are not what they should be, or all of it if all
// chunks are right.
func (f *filler) doubt() error {
	found := false
	for i := range f.tree.nodes {
		for _, c := range f.tree.nodes[i].chunks {
			if _, err := f.blob.unpack(c); err != nil {
				found = true
				if err := f.blob.forget(c.start, c.end); err != nil {
					return err
				}
			}
		}
	}
	if found {
		return nil
	}
	return f.blob.forget(0, f.blob.size)
}
