package recall

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layers has archives by diff ID.
type layers map[digest.Digest][]byte

func (l layers) Tar(_ context.Context, d digest.Digest) (io.ReadCloser, error) {
	b, ok := l[d]
	if !ok {
		return nil, errdefs.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (l layers) Peek(ctx context.Context, d digest.Digest) (io.ReadCloser, error) {
	return l.Tar(ctx, d)
}

func (l layers) Prove(_ context.Context, d digest.Digest) error {
	if b, ok := l[d]; !ok {
		return errdefs.ErrNotFound
	} else if digest.FromBytes(b) != d {
		return errdefs.ErrDataLoss
	}
	return nil
}

func (l layers) Hold([]digest.Digest) func() { return func() {} }

// shelf has blobs, and recipes of those that were dropped.
type shelf struct {
	blobs   map[digest.Digest][]byte
	sources map[digest.Digest]string
	recipes map[digest.Digest]Recipe
}

func (s *shelf) Recipe(d digest.Digest) (Recipe, bool) { r, ok := s.recipes[d]; return r, ok }

func (s *shelf) Drop(_ context.Context, list []Blob) error {
	for _, b := range list {
		s.recipes[b.Digest] = b.Recipe
		delete(s.blobs, b.Digest)
	}
	return nil
}

func (s *shelf) Enter(context.Context, ocispec.Descriptor, Recipe) error {
	return errors.ErrUnsupported
}

func (s *shelf) Source(_ context.Context, d digest.Digest) string { return s.sources[d] }

func (s *shelf) Scratch() (Scratch, error) { return &memory{}, nil }

func (s *shelf) ReaderAt(_ context.Context, d ocispec.Descriptor) (content.ReaderAt, error) {
	b, ok := s.blobs[d.Digest]
	if !ok {
		return nil, errdefs.ErrNotFound
	}
	return &memory{b: b}, nil
}

// memory is a file that is none.
type memory struct {
	mu sync.Mutex
	b  []byte
}

func (m *memory) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b = append(m.b, p...)
	return len(p), nil
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m.b).ReadAt(p, off) }
func (m *memory) Size() int64                             { return int64(len(m.b)) }
func (m *memory) Close() error                            { return nil }
func (m *memory) Reset() error                            { m.b = nil; return nil }

// sources give blobs by their repository, unless that is down.
type sources struct {
	have  map[string][]byte
	asked int
}

func (s *sources) Fetch(_ context.Context, repo string, _ ocispec.Descriptor) (io.ReadCloser, error) {
	s.asked++
	b, ok := s.have[repo]
	if !ok {
		return nil, errdefs.ErrUnavailable
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func blobOf(b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func TestBlobsGoIfTheyComeBack(t *testing.T) {
	raw := archive(5, 200)
	diff := digest.FromBytes(raw)
	known := compressedBy(t, Codec{"go-gzip", 6}, raw)
	// Begins like something known, and is not: its builder began anew once.
	const later = sample + 1<<20
	strange := append(compressedBy(t, Codec{"go-gzip", 6}, raw[:later]), compressedBy(t, Codec{"go-gzip", 6}, raw[later:])...)
	for _, c := range []struct {
		what   string
		blob   []byte
		source string
		diff   digest.Digest
		want   *Recipe
	}{
		{"of a known encoder", known, "", diff, &Recipe{DiffID: diff, Codec: &Codec{"go-gzip", 6}}},
		{"public, of a known encoder", known, "docker.io/library/a", diff, &Recipe{DiffID: diff, Codec: &Codec{"go-gzip", 6}, Source: "docker.io/library/a"}},
		{"of an encoder that seems known", strange, "", diff, nil},
		{"public, of an encoder that seems known", strange, "docker.io/library/a", diff, &Recipe{DiffID: diff, Codec: &Codec{"go-gzip", 6}, Source: "docker.io/library/a"}},
		{"the archive itself", raw, "", diff, &Recipe{DiffID: diff, Plain: true}},
		{"of a layer that is not here", known, "docker.io/library/a", digest.FromString("x"), nil},
		{"not gzip", []byte("\x28\xb5\x2f\xfd and more"), "", diff, nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			d := blobOf(c.blob)
			s := &shelf{blobs: map[digest.Digest][]byte{d.Digest: c.blob}, sources: map[digest.Digest]string{d.Digest: c.source}, recipes: map[digest.Digest]Recipe{}}
			l := layers{diff: raw}
			dropper := NewDropper(l, s, s, slog.New(slog.DiscardHandler))
			dropper.Offer(t.Context(), []Layer{{d, c.diff}})
			dropper.Wait()
			got, gone := s.recipes[d.Digest]
			if !gone {
				if c.want != nil {
					t.Error("it was kept")
				}
				return
			}
			if c.want == nil {
				t.Fatalf("it went as %+v", got)
			}
			if got.DiffID != c.want.DiffID || got.Plain != c.want.Plain || got.Source != c.want.Source || (got.Codec == nil) != (c.want.Codec == nil) || got.Codec != nil && *got.Codec != *c.want.Codec {
				t.Errorf("it went as %+v, codec %v", got, got.Codec)
			}
			// It comes back as it was.
			from := &sources{have: map[string][]byte{"docker.io/library/a": c.blob}}
			ra, err := NewMaker(l, s, from).Open(t.Context(), d, got)
			if err != nil {
				t.Fatal(err)
			}
			defer ra.Close()
			if b, err := io.ReadAll(content.NewReader(ra)); err != nil || !bytes.Equal(b, c.blob) {
				t.Errorf("made again: %d bytes of %d, %v", len(b), len(c.blob), err)
			}
		})
	}
}

func TestMadeHereIfNobodyGivesIt(t *testing.T) {
	raw := archive(6, 20)
	diff := digest.FromBytes(raw)
	blob := compressedBy(t, Codec{"pgzip", 6}, raw)
	r := Recipe{DiffID: diff, Codec: &Codec{"pgzip", 6}, Source: "docker.io/library/a"}
	for what, from := range map[string]*sources{
		"gone":         {},
		"another blob": {have: map[string][]byte{r.Source: []byte("something else")}},
	} {
		ra, err := NewMaker(layers{diff: raw}, &shelf{}, from).Open(t.Context(), blobOf(blob), r)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if b, err := io.ReadAll(content.NewReader(ra)); err != nil || !bytes.Equal(b, blob) {
			t.Errorf("%s: %d bytes of %d, %v", what, len(b), len(blob), err)
		}
		if from.asked != 1 {
			t.Errorf("%s: asked %d times", what, from.asked)
		}
		_ = ra.Close()
	}
	wrong := r
	wrong.Codec = &Codec{"go-gzip", 1}
	if _, err := NewMaker(layers{diff: raw}, &shelf{}, &sources{}).Open(t.Context(), blobOf(blob), wrong); !errors.Is(err, ErrLost) {
		t.Errorf("neither given nor made: %v", err)
	}
}
