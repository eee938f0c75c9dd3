package images

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// emptyTar is the digest of a tar archive without entries.
const emptyTar = digest.Digest("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")

// assembler makes new images, and enters them in the catalog.
type assembler struct {
	catalog *catalog
	store   *blobs
	sentry  *sentry
}

// image makes an image of base's layers and one more, which write streams as an
// uncompressed tar: hashed in the same pass in which it is stored. An empty layer is left out.
func (a *assembler) image(ctx context.Context, name string, img dockerspec.DockerOCIImage, base *manifest, write func(context.Context, io.Writer) error) (id digest.Digest, err error) {
	if err := a.sentry.fresh(name); err != nil {
		return "", err
	}
	held, release, err := a.store.content.Hold(ctx)
	if err != nil {
		return "", err
	}
	defer func() {
		release()
		if err != nil {
			a.catalog.sweep(ctx)
		}
	}()
	layer, err := a.store.streamLayer(held, write)
	if err != nil {
		return "", err
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	img.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	if base != nil {
		m.Layers = append(m.Layers, base.layers...)
		img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, base.image.RootFS.DiffIDs...)
	}
	if layer.Digest == emptyTar {
		img.History[len(img.History)-1].EmptyLayer = true
	} else {
		m.Layers = append(m.Layers, layer)
		img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, layer.Digest)
	}
	if m.Config, err = a.store.writeJSON(held, ocispec.MediaTypeImageConfig, img); err != nil {
		return "", err
	}
	target, err := a.store.writeJSON(held, m.MediaType, m, append([]ocispec.Descriptor{m.Config}, m.Layers...)...)
	if err != nil {
		return "", err
	}
	unpacked, err := a.store.unpack(held, &manifest{desc: target, config: m.Config, layers: m.Layers, image: img}, nil)
	if err != nil {
		return "", err
	}
	defer unpacked()
	_, err = a.catalog.point(held, name, target)
	return target.Digest, err
}

// streamLayer stores what write writes as a blob.
func (s *blobs) streamLayer(ctx context.Context, write func(context.Context, io.Writer) error) (d ocispec.Descriptor, err error) {
	blobs := s.content.Blobs()
	ref := fmt.Sprintf("layer-%d", time.Now().UnixNano())
	w, err := content.OpenWriter(ctx, blobs, content.WithRef(ref))
	if err != nil {
		return d, diskFull(err)
	}
	defer func() {
		_ = w.Close()
		if err != nil {
			_ = blobs.Abort(context.WithoutCancel(ctx), ref)
		}
	}()
	count := &counter{w: w}
	if err := write(ctx, count); err != nil {
		return d, diskFull(err)
	}
	d = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: w.Digest(), Size: count.n}
	if err := w.Commit(ctx, d.Size, d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return d, diskFull(err)
	}
	return d, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
