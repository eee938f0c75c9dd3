package images

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/images/recall"
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

// compressedLabel marks, at a layer that is not compressed, the blob that is the same compressed: it lives as long, and is
// not made twice.
const compressedLabel = gcChild + "gzip"

// gzipped is a layer's blob, compressed.
func (s *blobs) gzipped(ctx context.Context, l ocispec.Descriptor) (d ocispec.Descriptor, err error) {
	blobs := s.content.Blobs()
	i, err := blobs.Info(ctx, l.Digest)
	if err != nil {
		return d, err
	}
	mediaType := cimages.MediaTypeDockerSchema2LayerGzip
	if l.MediaType == ocispec.MediaTypeImageLayer {
		mediaType = ocispec.MediaTypeImageLayerGzip
	}
	if known := digest.Digest(i.Labels[compressedLabel]); known != "" {
		if i, err := blobs.Info(ctx, known); err == nil {
			return ocispec.Descriptor{MediaType: mediaType, Digest: known, Size: i.Size}, s.keep(ctx, i)
		}
	}
	ra, err := blobs.ReaderAt(ctx, l)
	if err != nil {
		return d, err
	}
	defer ra.Close()
	d, err = s.streamLayer(ctx, func(ctx context.Context, w io.Writer) error {
		return recall.Gzip.Compress(w, bound{ctx, content.NewReader(ra)})
	})
	if err != nil {
		return d, err
	}
	d.MediaType = mediaType
	_, err = blobs.Update(ctx, content.Info{Digest: l.Digest, Labels: map[string]string{compressedLabel: d.Digest.String()}}, "labels."+compressedLabel)
	return d, err
}

// dropGzipped has the compressed blobs of layers go again whose own have gone: they are made the same way if they are wanted once more.
func (s *blobs) dropGzipped(ctx context.Context, layers []ocispec.Descriptor) error {
	var list []recall.Blob
	for _, l := range layers {
		r, dropped := s.recall.dropped(l.Digest)
		if !dropped || !r.Plain {
			continue
		}
		i, err := s.content.Blobs().Info(ctx, l.Digest)
		if err != nil {
			return err
		}
		d := digest.Digest(i.Labels[compressedLabel])
		if _, gone := s.recall.dropped(d); d != "" && !gone {
			list = append(list, recall.Blob{Digest: d, Recipe: recall.Recipe{DiffID: r.DiffID, Codec: &recall.Gzip}})
		}
	}
	if len(list) == 0 {
		return nil
	}
	return s.recall.Shelf.Drop(ctx, list)
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
