package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/registryserver/protocol"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// fake is another registry, with one image under the tag v1, that counts what it is asked for.
type fake struct {
	mu     sync.Mutex
	asked  []string
	blobs  map[digest.Digest][]byte
	image  ocispec.Descriptor
	broken error
	gate   chan struct{} // a blob's second half waits for it
	lie    bool
}

func newFake(layer string) *fake {
	f := &fake{blobs: map[digest.Digest][]byte{}}
	add := func(b []byte, mediaType string) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
		f.blobs[d.Digest] = b
		return d
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: add([]byte("{}"), ocispec.MediaTypeImageConfig), Layers: []ocispec.Descriptor{add([]byte(layer), ocispec.MediaTypeImageLayer)}}
	m.SchemaVersion = 2
	body, _ := json.Marshal(m)
	f.image = add(body, m.MediaType)
	return f
}

func (f *fake) ask(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, what)
	return f.broken
}

func (f *fake) times(what string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.asked {
		if a == what {
			n++
		}
	}
	return n
}

func (f *fake) Resolve(_ context.Context, repo, ref string) (ocispec.Descriptor, error) {
	if err := f.ask("resolve " + repo + " " + ref); err != nil {
		return ocispec.Descriptor{}, err
	}
	if ref != "v1" && ref != f.image.Digest.String() {
		return ocispec.Descriptor{}, errdefs.ErrNotFound
	}
	return f.image, nil
}

func (f *fake) Fetch(ctx context.Context, _ string, d ocispec.Descriptor) (io.ReadCloser, error) {
	if err := f.ask("fetch " + d.Digest.String()); err != nil {
		return nil, err
	}
	b := f.blobs[d.Digest]
	if f.lie && d.Digest != f.image.Digest {
		b = bytes.Repeat([]byte("x"), len(b))
	}
	if f.gate == nil {
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	half := len(b) / 2
	return io.NopCloser(io.MultiReader(bytes.NewReader(b[:half]), readFunc(func([]byte) (int, error) {
		select {
		case <-f.gate:
			return 0, io.EOF
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}), bytes.NewReader(b[half:]))), nil
}

func (f *fake) Tags(context.Context, string) ([]string, error) {
	return []string{"v1", "V0", "v2"}, f.ask("tags")
}

type readFunc func([]byte) (int, error)

func (r readFunc) Read(b []byte) (int, error) { return r(b) }

type uncounted struct{}

func (uncounted) Cache(string, string) {}

func open(t *testing.T, f *fake, fresh time.Duration, size int64) (*Cache, *storage.Store) {
	t.Helper()
	s, err := storage.Open(storage.Options{Dir: t.TempDir(), Spare: func(r string) bool { return strings.HasPrefix(r, "hub/") }})
	if err != nil {
		t.Fatal(err)
	}
	c := New(Options{
		Registries: []Registry{{Prefix: "hub", Host: "docker.io", Upstream: f}}, Default: "hub", Fresh: fresh, Size: size, Content: s, Records: s, Space: s.Collector(),
		Counter: uncounted{}, Local: protocol.Local{Store: s}, Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() {
		c.Close()
		_ = s.Close()
	})
	return c, s
}

func layerOf(f *fake) digest.Digest {
	var m ocispec.Manifest
	_ = json.Unmarshal(f.blobs[f.image.Digest], &m)
	return m.Layers[0].Digest
}

func read(t *testing.T, c *Cache, repo string, d digest.Digest) string {
	t.Helper()
	r, _, err := c.Open(t.Context(), repo, d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFetchedOnce(t *testing.T) {
	f := newFake("the layer")
	c, _ := open(t, f, time.Hour, 0)
	for range 3 {
		m, err := c.Manifest(t.Context(), "hub/library/app", "v1")
		if err != nil || m.Digest != f.image.Digest {
			t.Fatal(m, err)
		}
		if got := read(t, c, "hub/library/app", layerOf(f)); got != "the layer" {
			t.Errorf("%q", got)
		}
		c.behind.Wait()
	}
	for _, what := range []string{"resolve library/app v1", "fetch " + f.image.Digest.String(), "fetch " + layerOf(f).String()} {
		if n := f.times(what); n != 1 {
			t.Errorf("%s: %d times", what, n)
		}
	}
	if _, err := c.Manifest(t.Context(), "hub/library/app", "none"); !refusal.ManifestUnknown.Is(err) {
		t.Errorf("%v", err)
	}
	if _, err := c.Stat(t.Context(), "hub/library/app", digest.FromString("nowhere")); !refusal.BlobUnknown.Is(err) {
		t.Errorf("%v", err)
	}
}

// While its registry is down, what is here is served; what is not is a clear refusal.
func TestStale(t *testing.T) {
	f := newFake("layer")
	c, _ := open(t, f, 0, 0)
	if _, err := c.Manifest(t.Context(), "hub/a", "v1"); err != nil {
		t.Fatal(err)
	}
	_ = read(t, c, "hub/a", layerOf(f))
	c.behind.Wait()
	f.broken = errdefs.ErrUnavailable
	if m, err := c.Manifest(t.Context(), "hub/a", "v1"); err != nil || m.Digest != f.image.Digest {
		t.Error(m, err)
	}
	if got := read(t, c, "hub/a", layerOf(f)); got != "layer" {
		t.Errorf("%q", got)
	}
	if _, err := c.Manifest(t.Context(), "hub/b", "v1"); refusal.Of(err).Code.Status != 502 {
		t.Errorf("%v", err)
	}
	if tags, _, err := c.Tags(t.Context(), "hub/a", "", 10); err != nil || len(tags) != 1 {
		t.Errorf("%v %v", tags, err)
	}
	f.broken = errdefs.ErrNotFound
	if _, err := c.Manifest(t.Context(), "hub/a", "v1"); !refusal.ManifestUnknown.Is(err) {
		t.Errorf("what its registry no longer has is served: %v", err)
	}
}

// Several read a blob while it comes; the first leaves, and the others and the store get it all the same.
func TestReadWhileItComes(t *testing.T) {
	text := strings.Repeat("0123456789", 100)
	f := newFake(text)
	c, s := open(t, f, time.Hour, 0)
	if _, err := c.Manifest(t.Context(), "hub/a", "v1"); err != nil {
		t.Fatal(err)
	}
	f.gate = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	first, b, err := c.Open(ctx, "hub/a", layerOf(f))
	if err != nil || b.Size != 1000 {
		t.Fatal(b, err)
	}
	half := make([]byte, 500)
	if _, err := io.ReadFull(first, half); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := first.Read(half); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	_ = first.Close()
	second, _, err := c.Open(t.Context(), "hub/a", layerOf(f))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := second.Seek(-10, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	close(f.gate)
	if rest, err := io.ReadAll(second); err != nil || string(rest) != text[990:] {
		t.Errorf("%q %v", rest, err)
	}
	c.behind.Wait()
	if _, err := s.Blob("hub/a", layerOf(f)); err != nil {
		t.Error(err)
	}
	if n := f.times("fetch " + layerOf(f).String()); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

// A registry that sends something else: nobody gets the whole of it, nothing is kept, and the next good answer is.
func TestLiesAreNotKept(t *testing.T) {
	f := newFake("the layer")
	c, s := open(t, f, time.Hour, 0)
	if _, err := c.Manifest(t.Context(), "hub/a", "v1"); err != nil {
		t.Fatal(err)
	}
	f.lie = true
	r, _, err := c.Open(t.Context(), "hub/a", layerOf(f))
	if err == nil {
		var got []byte
		got, err = io.ReadAll(r)
		if len(got) >= len("the layer") {
			t.Errorf("all of a lie was given: %q", got)
		}
		_ = r.Close()
	}
	if err == nil {
		t.Error("a lie was told without an error")
	}
	c.behind.Wait()
	if _, err := s.Blob("hub/a", layerOf(f)); !refusal.BlobUnknown.Is(err) {
		t.Errorf("%v", err)
	}
	if n := s.Totals(); n.Uploads != 0 || n.Coming != 0 {
		t.Errorf("left: %+v", n)
	}
	f.lie = false
	if got := read(t, c, "hub/a", layerOf(f)); got != "the layer" {
		t.Errorf("%q", got)
	}
}

func TestMakesRoom(t *testing.T) {
	f := newFake(strings.Repeat("x", 600))
	c, s := open(t, f, time.Hour, 2000)
	for _, repo := range []string{"hub/a", "hub/b", "hub/c", "hub/d"} {
		if _, err := c.Manifest(t.Context(), repo, "v1"); err != nil {
			t.Fatal(err)
		}
		_ = read(t, c, repo, layerOf(f))
		c.behind.Wait()
		if used := s.Spared(); used > 2000 {
			t.Errorf("%d bytes are used", used)
		}
	}
	if got := read(t, c, "hub/d", layerOf(f)); len(got) != 600 {
		t.Errorf("%d bytes", len(got))
	}
}

func TestNames(t *testing.T) {
	f := newFake("x")
	c, s := open(t, f, time.Hour, 0)
	u, err := s.Begin("own/app", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	_, release, _ := u.Hold(t.Context())
	if _, err := u.Commit(digest.FromString("")); err != nil {
		t.Fatal(err)
	}
	release()
	for _, x := range []struct{ repo, ns, want string }{
		{"library/a", "", "hub/library/a"}, {"hub/a", "", "hub/a"}, {"own/app", "", "own/app"}, {"library/a", "docker.io", "hub/library/a"},
		{"library/a", "registry-1.docker.io", "hub/library/a"}, {"a", "quay.io", ""},
	} {
		if got := c.Rename(x.repo, x.ns); got != x.want {
			t.Errorf("%s of %q means %q, want %q", x.repo, x.ns, got, x.want)
		}
	}
	if c.ReadOnly("hub/a") == "" || c.ReadOnly("own/app") != "" {
		t.Error("what is copied can be pushed to, or what is not cannot")
	}
	tags, more, err := c.Tags(t.Context(), "hub/a", "V0", 1)
	if err != nil || !more || len(tags) != 1 || tags[0].Name != "v1" {
		t.Errorf("%v %v %v", tags, more, err)
	}
}
