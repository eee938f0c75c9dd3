// Package transfer is how blobs come in: downloaded side by side, each once for all who want it, taken up where it broke
// off, and read while it comes.
//
//	Join ─► a slot ─► fetched into a file ─► its digest is compared ─► Arrived
//	                          └─► Reader: follows, for whoever unpacks it
package transfer

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// Fetcher reads a blob from offset on.
type Fetcher = func(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error)

// Files are where blobs come in. Implemented by driver/content.
type Files interface {
	// Receive opens the file in which a blob comes in. What is there of it from a download that broke off is in it.
	Receive(d digest.Digest) (File, error)
}

// Transfers are the blobs on their way in. Who wants one that is under way takes part in it; one that nobody wants
// any more is broken off, and what came in stays for the next time.
type Transfers struct {
	files Files
	slots *Slots

	mu  sync.Mutex
	all map[digest.Digest]*Blob
	// leaving are those that were broken off, until nothing writes to their file any more. Who wants one of these begins anew, after that.
	leaving map[digest.Digest]chan struct{}
}

// New gives Transfers that download that many blobs at once; 0 is without bound.
func New(files Files, atOnce int) *Transfers {
	return &Transfers{files: files, slots: NewSlots(atOnce), all: map[digest.Digest]*Blob{}, leaving: map[digest.Digest]chan struct{}{}}
}

// Bound changes how many blobs are downloaded at once.
func (ts *Transfers) Bound(n int) { ts.slots.Resize(n) }

// Join takes part in a blob's transfer, which begins with fetch if there is none. It has to be left.
func (ts *Transfers) Join(d ocispec.Descriptor, fetch Fetcher) *Blob {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.all[d.Digest]; t != nil {
		t.users++
		return t
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Blob{Desc: d, users: 1, cancel: cancel, changed: make(chan struct{}), ended: make(chan struct{})}
	ts.all[d.Digest] = t
	before := ts.leaving[d.Digest]
	go func() {
		defer close(t.ended)
		if before != nil {
			<-before
		}
		if err := ts.run(ctx, t, fetch); err != nil {
			ts.forget(t) // whoever comes now begins anew
			t.change(func() { t.err = err })
		}
	}()
	return t
}

func (ts *Transfers) forget(t *Blob) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.all[t.Desc.Digest] == t {
		delete(ts.all, t.Desc.Digest)
	}
}

// Leave ends the part in a transfer. The last one to leave waits until nothing writes any more.
func (ts *Transfers) Leave(t *Blob) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t.users--; t.users > 0 {
		return
	}
	name := t.Desc.Digest
	if ts.all[name] == t {
		delete(ts.all, name)
		gone := make(chan struct{})
		ts.leaving[name] = gone
		defer func() {
			if ts.leaving[name] == gone {
				delete(ts.leaving, name)
			}
			close(gone)
		}()
	}
	t.cancel()
	ts.mu.Unlock()
	<-t.ended
	ts.mu.Lock()
	if t.file == nil {
		return
	}
	if t.futile && ts.all[name] == nil { // else another one goes on with the file
		_ = t.file.Discard()
	}
	_ = t.file.Close()
}

// GiveUp has what came in dropped once nobody takes part any more: there is no room for the rest.
func (ts *Transfers) GiveUp(t *Blob) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t.futile = true
}

// run does the transfer.
func (ts *Transfers) run(ctx context.Context, t *Blob, fetch Fetcher) error {
	release, err := ts.slots.Acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	file, err := ts.files.Receive(t.Desc.Digest)
	if err != nil {
		return err
	}
	t.change(func() { t.file, t.stage = file, Downloading })
	hash := t.Desc.Digest.Algorithm().Hash()
	if err := t.takeUp(hash); err != nil {
		return err
	}
	if t.at < t.Desc.Size || t.Desc.Size == 0 {
		if err := t.download(ctx, fetch, hash); err != nil {
			return err
		}
	}
	t.change(func() { t.stage = Verifying })
	failpoint.Hit("gantryd.pull-received")
	if got := digest.NewDigest(t.Desc.Digest.Algorithm(), hash); got != t.Desc.Digest {
		err := fmt.Errorf("filesystem layer verification failed for digest %s: what came in has the digest %s: %w", t.Desc.Digest, got, errdefs.ErrFailedPrecondition)
		return errors.Join(err, file.Discard())
	}
	t.change(func() { t.stage = Arrived })
	return nil
}

// takeUp hashes what is here from a transfer before.
func (b *Blob) takeUp(h hash.Hash) error {
	here := b.file.Size()
	if here > b.Desc.Size {
		return b.file.Reset()
	}
	n, err := io.Copy(h, io.NewSectionReader(b.file, 0, here))
	if err != nil {
		return fmt.Errorf("reading what is here of %s: %w", b.Desc.Digest, err)
	}
	b.change(func() { b.at = n })
	return nil
}

func (b *Blob) download(ctx context.Context, fetch Fetcher, h hash.Hash) error {
	r, err := fetch(ctx, b.Desc, b.at)
	if err != nil {
		return err
	}
	defer r.Close()
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			h.Write(buf[:n])
			if _, err := b.Write(buf[:n]); err != nil {
				return err
			}
			failpoint.Hit("gantryd.pull-written")
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
