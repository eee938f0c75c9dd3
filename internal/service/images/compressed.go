package images

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/images/recall"
)

// compressedLabel marks, at a layer, the blob that is the same compressed here: it lives as long, and is not made twice.
const compressedLabel = gcChild + "gzip"

// compressed is a layer's archive, compressed here: as it was the last time, unless that is to be done anew, or now. The store
// has it then; made is what was made now without a file of the store, if that was so, and the caller's.
func (s *blobs) compressed(ctx context.Context, l ocispec.Descriptor, diffID digest.Digest, anew bool) (d ocispec.Descriptor, made content.ReaderAt, err error) {
	blobs := s.content.Blobs()
	i, err := blobs.Info(ctx, l.Digest)
	if err != nil {
		return d, nil, err
	}
	if known := digest.Digest(i.Labels[compressedLabel]); known != "" && !anew {
		if i, err := blobs.Info(ctx, known); err == nil {
			d = ocispec.Descriptor{MediaType: gzipType(l.MediaType), Digest: known, Size: i.Size}
			return d, nil, s.keep(ctx, i)
		}
	}
	d, made, err = s.compressFiles(ctx, diffID)
	if _, dropped := s.recall.dropped(l.Digest); err != nil && !dropped && ctx.Err() == nil {
		d, err = s.compressBlob(ctx, l)
	}
	if err != nil {
		return d, nil, fmt.Errorf("compressing the layer %s: %w", l.Digest, diskFull(err))
	}
	d.MediaType = gzipType(l.MediaType)
	_, err = blobs.Update(ctx, content.Info{Digest: l.Digest, Labels: map[string]string{compressedLabel: d.Digest.String()}}, "labels."+compressedLabel)
	if err != nil && made != nil {
		return d, nil, errors.Join(err, made.Close())
	}
	return d, made, err
}

// gzipType is the type of a layer that was compressed, of the same family.
func gzipType(mediaType string) string {
	if isOCI(mediaType) {
		return ocispec.MediaTypeImageLayerGzip
	}
	return cimages.MediaTypeDockerSchema2LayerGzip
}

// compressFiles compresses the archive that a layer's files make.
func (s *blobs) compressFiles(ctx context.Context, diffID digest.Digest) (d ocispec.Descriptor, made content.ReaderAt, err error) {
	if s.recall.Layers == nil {
		return d, nil, errdefs.ErrNotFound
	}
	tar, err := s.recall.Layers.Tar(ctx, diffID)
	if err != nil {
		return d, nil, err
	}
	defer tar.Close()
	f, err := s.recall.Shelf.Scratch()
	if err != nil {
		return d, nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	hash, was := digest.SHA256.Hash(), diffID.Verifier()
	count := &counter{w: io.MultiWriter(f, hash)}
	if err := recall.Gzip.Compress(count, io.TeeReader(bound{ctx, tar}, was)); err != nil {
		return d, nil, err
	}
	if !was.Verified() {
		return d, nil, fmt.Errorf("the files of layer %s have changed: %w", diffID, errdefs.ErrDataLoss)
	}
	d = ocispec.Descriptor{Digest: digest.NewDigest(digest.SHA256, hash), Size: count.n}
	how := recall.Gzip
	if err := s.recall.Shelf.Enter(ctx, d, recall.Recipe{DiffID: diffID, Codec: &how}); err != nil {
		return d, nil, err
	}
	return d, scratched{f, count.n}, nil
}

// compressBlob compresses a layer's blob, which is its archive.
func (s *blobs) compressBlob(ctx context.Context, l ocispec.Descriptor) (d ocispec.Descriptor, err error) {
	ra, err := s.content.Blobs().ReaderAt(ctx, l)
	if err != nil {
		return d, err
	}
	defer ra.Close()
	return s.streamLayer(ctx, func(ctx context.Context, w io.Writer) error {
		return recall.Gzip.Compress(w, bound{ctx, content.NewReader(ra)})
	})
}

// scratched is a file that goes when it is closed. It implements content.ReaderAt.
type scratched struct {
	recall.Scratch
	size int64
}

func (s scratched) Size() int64 { return s.size }
