package lazy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/stargz-snapshotter/estargz"

	"github.com/gantry-engine/gantry/internal/lazyproto"
	. "github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

const fileSize = 1 << 20

// four is a layer of four files that do not compress.
func four(t testing.TB, opts ...estargz.Option) made {
	l := Layer{}
	for _, n := range []string{"a", "b", "c", "d"} {
		l = append(l, File(n, strings.Repeat(n, 7)+noise(fileSize)))
	}
	return estargzOf(t, l, append(opts, estargz.WithChunkSize(200_000))...)
}

func reads(s *served, name string) error {
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err == nil && !bytes.HasPrefix(b, []byte(strings.Repeat(name, 7))) {
		err = fmt.Errorf("%s begins with %q", name, b[:7])
	}
	return err
}

// Only what is read is fetched, and that once.
func TestFetchesWhatIsRead(t *testing.T) {
	m := four(t)
	src := &source{b: m.bytes}
	s := serve(t, m, src)
	before := src.fetched()
	if before > 6*block {
		t.Errorf("%d bytes were fetched before anything was read", before)
	}
	for range 2 {
		if err := reads(s, "b"); err != nil {
			t.Fatal(err)
		}
	}
	if n := src.fetched() - before; n < fileSize || n > fileSize+12*block {
		t.Errorf("%d bytes were fetched for a file of %d", n, fileSize)
	}
}

// What a registry gets wrong is not believed, and asked for again; if it stays wrong, the read fails and that is told.
func TestRegistryThatLies(t *testing.T) {
	m := four(t)
	wrong := func(from, to int64) []byte {
		b := bytes.Clone(m.bytes[from:to])
		for i := range b {
			b[i] ^= 0x55
		}
		return b
	}
	cut := func(from, to int64) []byte { return m.bytes[from : from+(to-from)/2] }
	down := errors.New("500 Internal Server Error")
	for name, c := range map[string]struct {
		fault func(asked int, from, to int64) ([]byte, error)
		ok    bool
	}{
		"wrong bytes once": {func(n int, from, to int64) ([]byte, error) {
			return map[bool][]byte{true: wrong(from, to)}[n == 3], nil
		}, true},
		"wrong bytes always": {func(_ int, from, to int64) ([]byte, error) { return wrong(from, to), nil }, false},
		"cut short": {func(n int, from, to int64) ([]byte, error) {
			return map[bool][]byte{true: cut(from, to)}[n%2 == 1], nil
		}, true},
		"down for a moment": {func(n int, _, _ int64) ([]byte, error) { return nil, map[bool]error{true: down}[n%3 == 0] }, true},
		"down":              {func(int, int64, int64) ([]byte, error) { return nil, down }, false},
		"gone":              {func(int, int64, int64) ([]byte, error) { return nil, errdefs.ErrNotFound }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := &source{b: m.bytes}
			s := serve(t, m, src)
			src.mu.Lock()
			src.asked, src.broken = 0, c.fault
			src.mu.Unlock()
			err := reads(s, "a")
			if (err == nil) != c.ok {
				t.Fatalf("reading: %v", err)
			}
			if c.ok {
				return
			}
			if a := <-s.events; a.Event != lazyproto.EventUnread || a.Error == "" {
				t.Errorf("it was told so: %+v", a)
			}
			src.mu.Lock()
			src.broken = nil
			src.mu.Unlock()
			if err := reads(s, "a"); err != nil {
				t.Errorf("after the registry is well again: %v", err)
			}
		})
	}
}

// A reader that gives up does not wait for the registry, and does not spoil it for others.
func TestReaderGivesUp(t *testing.T) {
	m := four(t)
	src := &source{b: m.bytes}
	s := serve(t, m, src)
	src.gate = make(chan struct{})
	c := s.tree.node(s.tree.node(rootID).children["a"]).chunks[0]
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errInterrupted)
	if _, err := s.chunks.get(ctx, s.blob, c); !errors.Is(err, errInterrupted) {
		t.Errorf("a reader that gave up: %v", err)
	}
	done := make(chan error)
	go func() { done <- reads(s, "a") }()
	close(src.gate)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// fills fills a layer and gives the last event.
func fills(t *testing.T, m made, src *source) (*served, lazyproto.Answer) {
	t.Helper()
	s := serve(t, m, src)
	go s.fill()
	for a := range s.events {
		if a.Event != lazyproto.EventStuck {
			return s, a
		}
		t.Logf("%+v", a)
	}
	return nil, lazyproto.Answer{}
}

// The background fetches the rest, each byte once, and the blob is what its digest says.
func TestFill(t *testing.T) {
	m := four(t, estargz.WithPrioritizedFiles([]string{"c"}))
	src := &source{b: m.bytes}
	s, a := fills(t, m, src)
	if a.Event != lazyproto.EventWhole {
		t.Fatalf("%+v", a)
	}
	if n := src.fetched(); n != int64(len(m.bytes)) {
		t.Errorf("%d bytes were fetched of a blob of %d", n, len(m.bytes))
	}
	b, err := os.ReadFile(filepath.Join(s.place.Cache, "blob"))
	if err != nil || !bytes.Equal(b, m.bytes) {
		t.Errorf("what is in the cache is not the blob: %d bytes, %v", len(b), err)
	}
	if h := s.state(); !h.Whole || h.Here != int64(len(m.bytes)) {
		t.Errorf("%+v", h)
	}
}

// The files that the maker put first come first.
func TestFirstFilesFirst(t *testing.T) {
	m := four(t, estargz.WithPrioritizedFiles([]string{"c"}))
	src := &source{b: m.bytes}
	s := serve(t, m, src)
	var order []int64
	src.broken = func(_ int, from, _ int64) ([]byte, error) {
		order = append(order, from)
		return nil, nil
	}
	go s.fill()
	if a := <-s.events; a.Event != lazyproto.EventWhole {
		t.Fatalf("%+v", a)
	}
	if len(order) < 3 || order[0] != 0 || s.tree.first < fileSize {
		t.Errorf("first came %v; %d bytes are to be first", order, s.tree.first)
	}
}

// A registry that gives no parts later on is read from the beginning.
func TestFillWithoutParts(t *testing.T) {
	m := four(t)
	src := &source{b: m.bytes}
	s := serve(t, m, src)
	src.mu.Lock()
	src.whole = true
	src.mu.Unlock()
	go s.fill()
	if a := <-s.events; a.Event != lazyproto.EventWhole {
		t.Fatalf("%+v", a)
	}
	if err := reads(s, "d"); err != nil {
		t.Error(err)
	}
}

// Bytes that were torn, in the cache or on the way, are found when the blob is whole, and fetched again: once.
func TestFillRepairs(t *testing.T) {
	m := four(t)
	t.Run("torn", func(t *testing.T) {
		src := &source{b: m.bytes}
		s := serve(t, m, src)
		if err := reads(s, "b"); err != nil {
			t.Fatal(err)
		}
		c := s.tree.node(s.tree.node(rootID).children["b"]).chunks[2]
		if _, err := s.blob.file.WriteAt(make([]byte, 1000), c.start+10); err != nil {
			t.Fatal(err)
		}
		go s.fill()
		if a := <-s.events; a.Event != lazyproto.EventWhole {
			t.Errorf("%+v", a)
		}
	})
	t.Run("lie", func(t *testing.T) {
		src := &source{b: m.bytes}
		src.broken = func(_ int, from, to int64) ([]byte, error) {
			b := bytes.Clone(m.bytes[from:to])
			if from == 0 {
				b[20] ^= 1 // a tar header, which no chunk covers
			}
			return b, nil
		}
		s, a := fills(t, m, src)
		if a.Event != lazyproto.EventLies || !strings.Contains(a.Error, "digest") {
			t.Errorf("%+v", a)
		}
		if h := s.state(); h.Whole || h.Stuck == "" {
			t.Errorf("%+v", h)
		}
		if err := reads(s, "d"); err != nil {
			t.Errorf("what each chunk's digest proves is still read: %v", err)
		}
	})
}

// After a restart, what is in the cache is not fetched again; what is not whole there is.
func TestCacheIsGoneOnWith(t *testing.T) {
	m := four(t)
	cache := t.TempDir()
	src := &source{b: m.bytes}
	l, _, err := opened(t, m, src, cache)
	if err != nil {
		t.Fatal(err)
	}
	c := l.tree.node(l.tree.node(rootID).children["c"])
	if _, err := l.chunks.read(t.Context(), l.blob, c, make([]byte, c.size), 0); err != nil {
		t.Fatal(err)
	}
	first := src.fetched()
	for _, torn := range []bool{false, true} {
		if torn { // the table of contents itself
			if _, err := l.blob.file.WriteAt(make([]byte, 100), int64(len(m.bytes))-200); err != nil {
				t.Fatal(err)
			}
		}
		again := &source{b: m.bytes}
		l2, _, err := opened(t, m, again, cache)
		if err != nil {
			t.Fatal(err)
		}
		if torn != (again.fetched() > 0) {
			t.Errorf("torn %v: %d bytes were fetched again, %d before", torn, again.fetched(), first)
		}
		if _, err := l2.chunks.read(t.Context(), l2.blob, c, make([]byte, c.size), 0); err != nil {
			t.Error(err)
		}
	}
}

// The chunks in memory are bounded.
func TestChunksAreBounded(t *testing.T) {
	m := estargzOf(t, Layer{File("big", noise(40<<20))}, estargz.WithChunkSize(4<<20), estargz.WithCompressionLevel(1))
	l, _, err := opened(t, m, &source{b: m.bytes}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n := l.tree.node(l.tree.node(rootID).children["big"])
	if _, err := l.chunks.read(t.Context(), l.blob, n, make([]byte, n.size), 0); err != nil {
		t.Fatal(err)
	}
	if l.chunks.used > cacheSize || len(l.chunks.all) > 7 {
		t.Errorf("%d bytes in %d chunks are kept", l.chunks.used, len(l.chunks.all))
	}
	l.chunks.forget(l.blob)
	if l.chunks.used != 0 || len(l.chunks.all) != 0 {
		t.Errorf("%d bytes in %d chunks are left", l.chunks.used, len(l.chunks.all))
	}
}
