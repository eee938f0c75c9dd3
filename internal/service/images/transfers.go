package images

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

// fetcher reads a blob from offset on.
type fetcher func(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error)

// transfers are the blobs on their way in. Who wants one that is under way takes part in it; one that nobody wants
// any more is broken off, and what came in stays for the next time.
type transfers struct {
	content Content
	slots   *slots

	mu  sync.Mutex
	all map[digest.Digest]*transfer
}

// stage is how far a transfer is.
type stage uint8

const (
	waiting stage = iota
	downloading
	verifying
	arrived
)

// transfer is one blob on its way in.
type transfer struct {
	d      ocispec.Descriptor
	users  int  // guarded by transfers.mu
	futile bool // guarded by transfers.mu: what came in is not kept
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed at the next change
	file    Incoming
	stage   stage
	at      int64 // bytes that are here
	err     error // it failed
}

// join takes part in a blob's transfer, which begins with fetch if there is none. It has to be left.
func (ts *transfers) join(d ocispec.Descriptor, fetch fetcher) *transfer {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.all[d.Digest]; t != nil {
		t.users++
		return t
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &transfer{d: d, users: 1, cancel: cancel, changed: make(chan struct{}), ended: make(chan struct{})}
	ts.all[d.Digest] = t
	go func() {
		defer close(t.ended)
		if err := ts.run(ctx, t, fetch); err != nil {
			ts.forget(t) // whoever comes now begins anew
			t.change(func() { t.err = err })
		}
	}()
	return t
}

func (ts *transfers) forget(t *transfer) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.all[t.d.Digest] == t {
		delete(ts.all, t.d.Digest)
	}
}

// leave ends the part in a transfer. The last one to leave waits until nothing writes any more.
func (ts *transfers) leave(t *transfer) {
	ts.mu.Lock()
	t.users--
	last := t.users == 0
	ts.mu.Unlock()
	if !last {
		return
	}
	t.cancel()
	<-t.ended
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t.users > 0 { // somebody joined meanwhile, and finds it ended
		return
	}
	if ts.all[t.d.Digest] == t {
		delete(ts.all, t.d.Digest)
	}
	if t.file == nil {
		return
	}
	if t.futile {
		_ = t.file.Discard()
	}
	_ = t.file.Close()
}

// giveUp has what came in dropped once nobody takes part any more: there is no room for the rest.
func (ts *transfers) giveUp(t *transfer) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t.futile = true
}

// run does the transfer.
func (ts *transfers) run(ctx context.Context, t *transfer, fetch fetcher) error {
	release, err := ts.slots.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	file, err := ts.content.Receive(t.d.Digest)
	if err != nil {
		return err
	}
	t.change(func() { t.file, t.stage = file, downloading })
	hash := t.d.Digest.Algorithm().Hash()
	if err := t.takeUp(hash); err != nil {
		return err
	}
	if t.at < t.d.Size || t.d.Size == 0 {
		if err := t.download(ctx, fetch, hash); err != nil {
			return diskFull(err)
		}
	}
	t.change(func() { t.stage = verifying })
	failpoint.Hit("gantryd.pull-received")
	if got := digest.NewDigest(t.d.Digest.Algorithm(), hash); got != t.d.Digest {
		err := fmt.Errorf("filesystem layer verification failed for digest %s: what came in has the digest %s: %w", t.d.Digest, got, errdefs.ErrFailedPrecondition)
		return errors.Join(err, file.Discard())
	}
	t.change(func() { t.stage = arrived })
	return nil
}

// takeUp hashes what is here from a transfer before.
func (t *transfer) takeUp(h hash.Hash) error {
	here := t.file.Size()
	if here > t.d.Size {
		return t.file.Reset()
	}
	n, err := io.Copy(h, io.NewSectionReader(t.file, 0, here))
	if err != nil {
		return fmt.Errorf("reading what is here of %s: %w", t.d.Digest, err)
	}
	t.change(func() { t.at = n })
	return nil
}

func (t *transfer) download(ctx context.Context, fetch fetcher, h hash.Hash) error {
	r, err := fetch(ctx, t.d, t.at)
	if err != nil {
		return err
	}
	defer r.Close()
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			h.Write(buf[:n])
			if _, err := t.file.Write(buf[:n]); err != nil {
				return err
			}
			failpoint.Hit("gantryd.pull-written")
			t.change(func() { t.at += int64(n) })
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// change does something to the state, and wakes who waits for it.
func (t *transfer) change(do func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	do()
	close(t.changed)
	t.changed = make(chan struct{})
}

// state is how far the transfer is; changed is closed when that is no longer so.
func (t *transfer) state() (s stage, at int64, changed <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stage, t.at, t.changed, t.err
}

// wait waits for the end.
func (t *transfer) wait(ctx context.Context) error {
	for {
		s, _, changed, err := t.state()
		if err != nil || s == arrived {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// reader reads the blob from its beginning, and waits for what is still to come.
func (t *transfer) reader(ctx context.Context) io.Reader { return &follower{ctx: ctx, t: t} }

type follower struct {
	ctx context.Context
	t   *transfer
	pos int64
}

func (f *follower) Read(p []byte) (int, error) {
	for {
		s, at, changed, err := f.t.state()
		switch {
		case f.pos < at:
			n, err := f.t.file.ReadAt(p[:min(int64(len(p)), at-f.pos)], f.pos)
			f.pos += int64(n)
			if n > 0 {
				err = nil
			}
			return n, err
		case err != nil:
			return 0, err
		case s == arrived:
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return 0, context.Cause(f.ctx)
		}
	}
}

// slots bound how many do something at once. The bound may change meanwhile.
type slots struct {
	mu      sync.Mutex
	max     int // 0 is without bound
	used    int
	waiting []chan struct{}
}

// acquire waits for a slot, in turn.
func (s *slots) acquire(ctx context.Context) (release func(), err error) {
	s.mu.Lock()
	if s.max <= 0 || s.used < s.max {
		s.used++
		s.mu.Unlock()
		return s.release, nil
	}
	turn := make(chan struct{})
	s.waiting = append(s.waiting, turn)
	s.mu.Unlock()
	select {
	case <-turn:
		return s.release, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.waiting {
		if w == turn {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return nil, context.Cause(ctx)
		}
	}
	s.pass() // the turn came at that moment
	return nil, context.Cause(ctx)
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass()
}

// pass gives a slot back, and to who waits first. The caller holds mu.
func (s *slots) pass() {
	s.used--
	s.wake()
}

func (s *slots) wake() {
	for len(s.waiting) > 0 && (s.max <= 0 || s.used < s.max) {
		s.used++
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
	}
}

// resize changes the bound.
func (s *slots) resize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.max = n
	s.wake()
}
