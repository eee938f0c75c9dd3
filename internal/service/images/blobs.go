package images

import (
	"bytes"
	"context"
	_ "crypto/sha256" // go-digest looks the algorithm up
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"syscall"

	"github.com/containerd/containerd/v2/core/content"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// gcChild labels a blob so that its n-th child lives as long as it does.
const gcChild = "containerd.io/gc.ref.content."

// blobs is what images are made of: manifests, configurations and layers, packed and unpacked. It knows no names.
type blobs struct {
	content Content
	layers  Layers
	recall  Recall
}

// ingest streams a blob into the content store. expected may be empty: then its
// digest is found out. A mismatch leaves nothing behind.
func (s *blobs) ingest(ctx context.Context, ref string, r io.Reader, expected digest.Digest, buf []byte) (d ocispec.Descriptor, err error) {
	blobs := s.content.Blobs()
	if expected != "" {
		if i, err := blobs.Info(ctx, expected); err == nil {
			// Known: what the archive holds is still compared, so that a broken one is told.
			v := expected.Verifier()
			n, err := io.CopyBuffer(v, r, buf)
			if err == nil && !v.Verified() {
				err = mismatch(ref, expected, "")
			}
			return ocispec.Descriptor{Digest: expected, Size: n}, errors.Join(err, s.keep(ctx, i))
		}
	}
	w, err := content.OpenWriter(ctx, blobs, content.WithRef(ref))
	if err != nil {
		return d, fmt.Errorf("writing a blob: %w", diskFull(err))
	}
	defer func() {
		_ = w.Close()
		if err != nil {
			_ = blobs.Abort(context.WithoutCancel(ctx), ref)
		}
	}()
	if err := w.Truncate(0); err != nil {
		return d, err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, buf)
	if err != nil {
		return d, diskFull(err)
	}
	got := w.Digest()
	if expected != "" && got != expected {
		return d, mismatch(ref, expected, got)
	}
	if err := w.Commit(ctx, n, got); err != nil && !errdefs.IsAlreadyExists(err) {
		return d, diskFull(err)
	}
	return ocispec.Descriptor{Digest: got, Size: n}, nil
}

// keep puts a blob that was here before under the current lease: a relabelling does it.
func (s *blobs) keep(ctx context.Context, i content.Info) error {
	w, err := content.OpenWriter(ctx, s.content.Blobs(), content.WithRef("keep-"+i.Digest.String()), content.WithDescriptor(ocispec.Descriptor{Digest: i.Digest, Size: i.Size}))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return w.Close()
}

// keepAll puts those of some blobs that are here under the current lease, in one commit, and says which.
func (s *blobs) keepAll(ctx context.Context, list []ocispec.Descriptor) (here map[digest.Digest]bool, err error) {
	here = map[digest.Digest]bool{}
	some := slices.ContainsFunc(list, func(d ocispec.Descriptor) bool {
		_, err := s.content.Blobs().Info(ctx, d.Digest)
		return err == nil
	})
	if !some {
		return here, nil
	}
	err = s.content.Update(ctx, func(ctx context.Context) error {
		for _, d := range list {
			i, err := s.content.Blobs().Info(ctx, d.Digest)
			if errdefs.IsNotFound(err) {
				continue
			}
			if err := errors.Join(err, s.keep(ctx, i)); err != nil {
				return err
			}
			here[d.Digest] = true
		}
		return nil
	})
	return here, diskFull(err)
}

func mismatch(what string, expected, got digest.Digest) error {
	if got != "" {
		return fmt.Errorf("%s: digest mismatch: its content has the digest %s, expected %s: %w", what, got, expected, errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("%s: digest mismatch: its content is not that of %s: %w", what, expected, errdefs.ErrInvalidArgument)
}

// diskFull gives a full disk its class.
func diskFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("no space left on the data root's disk: %w: %w", err, errdefs.ErrResourceExhausted)
	}
	return err
}

// writeJSON stores a manifest, index or configuration whose children (descriptors) live with it.
func (s *blobs) writeJSON(ctx context.Context, mediaType string, v any, children ...ocispec.Descriptor) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	err = content.WriteBlob(ctx, s.content.Blobs(), "json-"+d.Digest.String(), bytes.NewReader(b), d, content.WithLabels(childLabels(children)))
	if err != nil {
		return d, diskFull(err)
	}
	// Where the blob was here before, the labels may be missing.
	return d, s.label(ctx, d.Digest, children)
}

func childLabels(children []ocispec.Descriptor) map[string]string {
	labels := map[string]string{}
	for i, c := range children {
		labels[gcChild+strconv.Itoa(i)] = c.Digest.String()
	}
	return labels
}

// manifestLabels make the manifests of an index that are here live as long as it. The number is the place in the
// index, so that platforms can come one by one.
func manifestLabels(idx ocispec.Index, here ...digest.Digest) map[string]string {
	labels := map[string]string{}
	for i, d := range idx.Manifests {
		if slices.Contains(here, d.Digest) {
			labels[gcChild+"m."+strconv.Itoa(i)] = d.Digest.String()
		}
	}
	return labels
}

// label makes the children of a blob live as long as the blob.
func (s *blobs) label(ctx context.Context, d digest.Digest, children []ocispec.Descriptor) error {
	if len(children) == 0 {
		return nil
	}
	i, err := s.content.Blobs().Info(ctx, d)
	if err != nil {
		return err
	}
	labels := childLabels(children)
	same := true
	var paths []string
	for k, v := range labels {
		same = same && i.Labels[k] == v
		paths = append(paths, "labels."+k)
	}
	if same {
		return nil
	}
	_, err = s.content.Blobs().Update(ctx, content.Info{Digest: d, Labels: labels}, paths...)
	return err
}

// unpack unpacks a manifest's layers, but those that were staged; release allows their collection again.
func (s *blobs) unpack(ctx context.Context, m *manifest, staged map[digest.Digest]Staged) (release func(), err error) {
	layers := make([]Layer, len(m.layers))
	for i, l := range m.layers {
		diffID := m.image.RootFS.DiffIDs[i]
		layers[i] = Layer{DiffID: diffID, Staged: staged[diffID], Open: func(ctx context.Context) (io.ReadCloser, error) {
			return s.openLayer(ctx, l, diffID)
		}}
	}
	release, err = s.layers.Unpack(s.content.Context(ctx), layers)
	return release, diskFull(err)
}

type layerReader struct {
	io.Reader
	z  io.Closer
	ra content.ReaderAt
}

func (l layerReader) Close() error { return errors.Join(l.z.Close(), l.ra.Close()) }

// openLayer reads a layer's blob, uncompressed.
func (s *blobs) openLayer(ctx context.Context, d ocispec.Descriptor, diffID digest.Digest) (io.ReadCloser, error) {
	if _, dropped := s.recall.dropped(d.Digest); dropped {
		if tar, err := s.recall.Layers.Tar(ctx, diffID); err == nil {
			return tar, nil
		}
	}
	ra, err := s.content.Blobs().ReaderAt(s.content.Context(ctx), d)
	if err != nil {
		return nil, err
	}
	z, err := decompress(bound{ctx, content.NewReader(ra)})
	if err != nil {
		return nil, errors.Join(err, ra.Close())
	}
	return layerReader{z, z, ra}, nil
}

// layerType tells a layer's media type by its first bytes.
func (s *blobs) layerType(ctx context.Context, d ocispec.Descriptor) (string, error) {
	ra, err := s.content.Blobs().ReaderAt(ctx, d)
	if err != nil {
		return "", err
	}
	defer ra.Close()
	head := make([]byte, 6)
	n, err := ra.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	switch detect(head[:n]) {
	case gzipped:
		return cimages.MediaTypeDockerSchema2LayerGzip, nil
	case zstandard:
		return cimages.MediaTypeDockerSchema2LayerZstd, nil
	case plain:
		return cimages.MediaTypeDockerSchema2Layer, nil
	}
	return "", fmt.Errorf("layer %s is compressed in a way that is not known: %w", d.Digest, errdefs.ErrInvalidArgument)
}

// labelTree makes an index hold its manifests, and these their blobs.
func (s *blobs) labelTree(ctx context.Context, e *entry) error {
	var children []ocispec.Descriptor
	for _, m := range e.manifests {
		if m.config.Digest == "" {
			continue // not here
		}
		children = append(children, m.desc)
		if err := s.label(ctx, m.desc.Digest, m.children()); err != nil {
			return err
		}
	}
	if cimages.IsIndexType(e.target.MediaType) {
		return s.label(ctx, e.target.Digest, children)
	}
	return nil
}

// incomplete names the first blob that an image lacks.
func (s *blobs) incomplete(ctx context.Context, e *entry) error {
	for _, m := range e.manifests {
		for _, d := range m.children() {
			if _, err := s.content.Blobs().Info(ctx, d.Digest); errdefs.IsNotFound(err) {
				return fmt.Errorf("the image %s is not whole: %s %s is missing in the archive: %w", e.target.Digest, d.MediaType, d.Digest, errdefs.ErrInvalidArgument)
			}
		}
	}
	return fmt.Errorf("%s is no image that can be run: %w", e.target.Digest, errdefs.ErrInvalidArgument)
}
