package content

import (
	"bytes"
	"context"
	"io/fs"
	"path/filepath"
	"testing"

	ccontent "github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/testsuite"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/images"
)

func TestContentSuite(t *testing.T) {
	testsuite.ContentSuite(t, "gantry", func(ctx context.Context, root string) (context.Context, ccontent.Store, func() error, error) {
		s, err := Open(ctx, root)
		if err != nil {
			return nil, nil, nil, err
		}
		ctx, release, err := s.Hold(ctx)
		if err != nil {
			return nil, nil, nil, err
		}
		return ctx, s.Blobs(), func() error { release(); return s.Close() }, nil
	})
}

func blobs(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != "meta.db" {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMismatchAndAbandonedLeasesLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	held, _, err := s.Hold(t.Context()) // never released: the process "crashes"
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("some bytes")
	err = ccontent.WriteBlob(held, s.Blobs(), "bad", bytes.NewReader(data), ocispec.Descriptor{Digest: digest.FromString("others"), Size: int64(len(data))})
	if err == nil || !errdefs.IsFailedPrecondition(err) && !errdefs.IsInvalidArgument(err) {
		t.Errorf("a wrong digest was taken: %v", err)
	}
	err = ccontent.WriteBlob(held, s.Blobs(), "good", bytes.NewReader(data), ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := blobs(t, filepath.Join(dir, "blobs")); n != 1 {
		t.Errorf("held: %d blobs", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := blobs(t, filepath.Join(dir, "blobs")); n != 0 {
		t.Errorf("%d blobs left after the restart", n)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Open(t.Context(), dir); err == nil {
		t.Fatal("opened twice")
	}
}

// The first blob of an empty store may be one that came in.
func TestAdoptIntoAnEmptyStore(t *testing.T) {
	s, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := []byte("some bytes")
	d := digest.FromBytes(data)
	in, err := s.Receive(d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	held, release, err := s.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := s.Adopt(held, []images.Arrival{{Digest: d, Size: int64(len(data))}}); err != nil {
		t.Fatal(err)
	}
	b, err := ccontent.ReadBlob(held, s.Blobs(), ocispec.Descriptor{Digest: d, Size: int64(len(data))})
	if err != nil || !bytes.Equal(b, data) {
		t.Errorf("%q, %v", b, err)
	}
}
