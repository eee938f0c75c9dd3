package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// disk is a folder of files in memory. What is closed stays for the next time.
type disk struct {
	mu    sync.Mutex
	files map[digest.Digest][]byte
	open  int
}

func (d *disk) Receive(name digest.Digest) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open++
	return &file{d: d, name: name}, nil
}

// here is what there is of a file, and how many are open.
func (d *disk) here(name digest.Digest) (b []byte, open int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files[name], d.open
}

type file struct {
	d    *disk
	name digest.Digest
	gone []byte // what it was when it was discarded
}

func (f *file) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.files[f.name] = append(f.d.files[f.name], p...)
	return len(p), nil
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if f.gone != nil {
		return bytes.NewReader(f.gone).ReadAt(p, off)
	}
	b, _ := f.d.here(f.name)
	return bytes.NewReader(b).ReadAt(p, off)
}

func (f *file) Size() int64 { b, _ := f.d.here(f.name); return int64(len(b)) }

func (f *file) Reset() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.files[f.name] = nil
	return nil
}

func (f *file) Discard() error {
	f.gone, _ = f.d.here(f.name)
	return f.Reset()
}

func (f *file) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.open--
	return nil
}

// source gives content, or content up to a gate that is opened later.
type source struct {
	content []byte
	half    int
	gate    chan struct{} // nil: no gate

	mu      sync.Mutex
	offsets []int64
}

func (s *source) fetch(ctx context.Context, _ ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	s.mu.Lock()
	s.offsets = append(s.offsets, offset)
	s.mu.Unlock()
	if s.gate == nil {
		return io.NopCloser(bytes.NewReader(s.content[offset:])), nil
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(s.content[offset:s.half]), gated{ctx, s.gate}, bytes.NewReader(s.content[s.half:]))), nil
}

func (s *source) asked() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.offsets
}

// gated reads nothing until the gate is open.
type gated struct {
	ctx  context.Context
	gate chan struct{}
}

func (g gated) Read([]byte) (int, error) {
	select {
	case <-g.gate:
		return 0, io.EOF
	case <-g.ctx.Done():
		return 0, context.Cause(g.ctx)
	}
}

func newDisk() *disk { return &disk{files: map[digest.Digest][]byte{}} }

func described(b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))}
}

// reached waits until so many bytes are here.
func reached(t *testing.T, b *Blob, n int64) {
	t.Helper()
	for {
		_, at, changed, err := b.State()
		if err != nil {
			t.Fatal(err)
		}
		if at >= n {
			return
		}
		<-changed
	}
}

func TestOneDownloadForAll(t *testing.T) {
	content := bytes.Repeat([]byte("shared "), 1000)
	s := &source{content: content, half: 3000, gate: make(chan struct{})}
	d, disk := described(content), newDisk()
	ts := New(disk, 3)
	first := ts.Join(d, s.fetch)
	second := ts.Join(d, s.fetch)
	reached(t, first, 3000)
	head := make([]byte, 3000)
	if _, err := io.ReadFull(second.Reader(t.Context()), head); err != nil || !bytes.Equal(head, content[:3000]) {
		t.Errorf("read while it came: %v", err)
	}
	ts.Leave(first) // the other one goes on
	close(s.gate)
	if got, err := io.ReadAll(second.Reader(t.Context())); err != nil || !bytes.Equal(got, content) {
		t.Errorf("read %d bytes of %d: %v", len(got), len(content), err)
	}
	if err := second.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	ts.Leave(second)
	if len(s.asked()) != 1 {
		t.Errorf("fetched from %v", s.asked())
	}
	if b, open := disk.here(d.Digest); !bytes.Equal(b, content) || open != 0 {
		t.Errorf("%d bytes are left, %d files open", len(b), open)
	}
}

func TestTakenUpWhereItBrokeOff(t *testing.T) {
	content := bytes.Repeat([]byte("again "), 1000)
	s := &source{content: content, half: 2000, gate: make(chan struct{})}
	d, disk := described(content), newDisk()
	ts := New(disk, 3)
	b := ts.Join(d, s.fetch)
	reached(t, b, 2000)
	ts.Leave(b) // nobody wants it
	if kept, open := disk.here(d.Digest); len(kept) != 2000 || open != 0 {
		t.Fatalf("%d bytes are kept, %d files open", len(kept), open)
	}
	close(s.gate)
	b = ts.Join(d, s.fetch)
	defer ts.Leave(b)
	if err := b.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.asked(); len(got) != 2 || got[1] != 2000 {
		t.Errorf("fetched from %v", got)
	}
}

// Who comes while a transfer is being broken off begins anew where that ends, and hears nothing of it.
func TestJoinedWhileItIsBrokenOff(t *testing.T) {
	content := bytes.Repeat([]byte("twice "), 1000)
	d, disk := described(content), newDisk()
	ts := New(disk, 3)
	entered, end := make(chan struct{}), make(chan struct{})
	slow := &source{content: content, half: 2000, gate: make(chan struct{})}
	first := ts.Join(d, func(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
		rc, err := slow.fetch(ctx, d, offset)
		return lingering{rc, entered, end}, err
	})
	reached(t, first, 2000)
	left := make(chan struct{})
	go func() {
		ts.Leave(first)
		close(left)
	}()
	<-entered // it is told to end, and takes its time
	s := &source{content: content}
	second := ts.Join(d, s.fetch)
	third := ts.Join(d, s.fetch)
	close(end)
	if err := second.Wait(t.Context()); err != nil {
		t.Errorf("the one that came meanwhile was told %v", err)
	}
	<-left
	ts.Leave(second)
	ts.Leave(third)
	if got := s.asked(); len(got) != 1 || got[0] != 2000 {
		t.Errorf("fetched from %v", got)
	}
	if b, open := disk.here(d.Digest); !bytes.Equal(b, content) || open != 0 {
		t.Errorf("%d bytes of %d are left, %d files open", len(b), len(content), open)
	}
	if len(ts.all)+len(ts.leaving) != 0 {
		t.Errorf("known still: %v, %v", ts.all, ts.leaving)
	}
}

// lingering is a stream whose Close takes until end.
type lingering struct {
	io.ReadCloser
	entered, end chan struct{}
}

func (l lingering) Close() error {
	close(l.entered)
	<-l.end
	return l.ReadCloser.Close()
}

func TestWhatIsNotWhatItShouldBeGoes(t *testing.T) {
	content := []byte("what came in")
	d := described([]byte("what should!"))
	disk := newDisk()
	ts := New(disk, 0)
	b := ts.Join(d, (&source{content: content}).fetch)
	if err := b.Wait(t.Context()); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("told %v", err)
	}
	if _, err := io.ReadAll(b.Reader(t.Context())); err == nil {
		t.Error("it was read to its end")
	}
	ts.Leave(b)
	if kept, open := disk.here(d.Digest); len(kept) != 0 || open != 0 {
		t.Errorf("%d bytes are kept, %d files open", len(kept), open)
	}
	// Larger than it should be: begun anew.
	disk.files[d.Digest] = bytes.Repeat([]byte("x"), 100)
	s := &source{content: []byte("what should!")}
	b = ts.Join(d, s.fetch)
	defer ts.Leave(b)
	if err := b.Wait(t.Context()); err != nil || s.asked()[0] != 0 {
		t.Errorf("%v, fetched from %v", err, s.asked())
	}
}

func TestGivenUp(t *testing.T) {
	content := bytes.Repeat([]byte("full "), 1000)
	d, disk := described(content), newDisk()
	ts := New(disk, 1)
	b := ts.Join(d, (&source{content: content, half: 1000, gate: make(chan struct{})}).fetch)
	reached(t, b, 1000)
	ts.GiveUp(b)
	ts.Leave(b)
	if kept, _ := disk.here(d.Digest); len(kept) != 0 {
		t.Errorf("%d bytes are kept", len(kept))
	}
}

func TestFailureIsToldToAllAndForgotten(t *testing.T) {
	content := []byte("later")
	ts := New(newDisk(), 1)
	broken := errors.New("broken")
	fail := func(context.Context, ocispec.Descriptor, int64) (io.ReadCloser, error) { return nil, broken }
	b := ts.Join(described(content), fail)
	if err := b.Wait(t.Context()); !errors.Is(err, broken) {
		t.Errorf("told %v", err)
	}
	again := ts.Join(described(content), (&source{content: content}).fetch)
	if err := again.Wait(t.Context()); err != nil {
		t.Errorf("who came later was told %v", err)
	}
	ts.Leave(b)
	ts.Leave(again)
}

func TestWrittenByItsOwner(t *testing.T) {
	disk := newDisk()
	f, _ := disk.Receive("x")
	b := Into(f)
	r := b.Reader(t.Context())
	go func() {
		_, _ = b.Write([]byte("one "))
		_, _ = b.Write([]byte("two"))
		b.End()
	}()
	if got, err := io.ReadAll(r); err != nil || string(got) != "one two" || !r.Arrived() {
		t.Errorf("%q, %v, arrived %v", got, err, r.Arrived())
	}
	broken := errors.New("broken")
	b = Into(f)
	b.Fail(broken)
	ctx, cancel := context.WithCancelCause(t.Context())
	if _, err := b.Reader(ctx).Read(make([]byte, 1)); !errors.Is(err, broken) {
		t.Errorf("told %v", err)
	}
	cancel(errors.ErrUnsupported)
	if _, err := Into(f).Reader(ctx).Read(make([]byte, 1)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("told %v after the end of its context", err)
	}
}

func TestSlots(t *testing.T) {
	s := NewSlots(1)
	release, err := s.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	order := make(chan int, 3)
	queued := func() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.waiting) }
	wait := func(ctx context.Context, n int) {
		at := queued()
		go func() {
			release, err := s.Acquire(ctx)
			if err != nil {
				order <- -n
				return
			}
			order <- n
			release()
		}()
		for queued() == at { // until it stands in the queue
			runtime.Gosched()
		}
	}
	wait(t.Context(), 1)
	wait(ctx, 2)
	wait(t.Context(), 3)
	cancel()
	if got := <-order; got != -2 {
		t.Fatalf("%d came first", got)
	}
	release()
	if a, b := <-order, <-order; a != 1 || b != 3 {
		t.Errorf("then %d and %d", a, b)
	}
	s.Resize(2)
	for range 2 {
		if _, err := s.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wait(t.Context(), 4)
	s.Resize(0) // without bound
	if got := <-order; got != 4 {
		t.Errorf("%d came when there was no bound any more", got)
	}
}
