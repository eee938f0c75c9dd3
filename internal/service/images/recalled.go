package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/images/recall"
)

// Recall is what there is to let blobs go that are there unpacked, and to have them again. All or nothing is set.
type Recall struct {
	Layers  recall.Layers
	Shelf   recall.Shelf
	Dropper *recall.Dropper
}

// dropped is how a blob without a file is made again.
func (r Recall) dropped(d digest.Digest) (recall.Recipe, bool) {
	if r.Shelf == nil {
		return recall.Recipe{}, false
	}
	return r.Shelf.Recipe(d)
}

// Anybody fetches blobs again without saying who asks. It implements recall.Sources.
type Anybody struct{ Registry Registry }

// Fetch implements recall.Sources.
func (a Anybody) Fetch(ctx context.Context, repository string, d ocispec.Descriptor) (io.ReadCloser, error) {
	named, err := reference.ParseNormalizedNamed(repository)
	if err != nil {
		return nil, err
	}
	repo, err := a.Registry.Open(ctx, named, registry.AuthConfig{})
	if err != nil {
		return nil, err
	}
	r, err := repo.Fetch(ctx, d, 0)
	if err != nil {
		repo.Close()
		return nil, err
	}
	return fetched{r, repo}, nil
}

type fetched struct {
	io.ReadCloser
	repo Repository
}

func (f fetched) Close() error {
	defer f.repo.Close()
	return f.ReadCloser.Close()
}

// use keeps a manifest's layers from collection: its blobs may be made of them. What was not collected for that is afterwards.
func (c *catalog) use(ctx context.Context, m *manifest) (release func()) {
	if c.recall.Layers == nil {
		return func() {}
	}
	was := c.sweeps.Load()
	let := c.recall.Layers.Hold(m.image.RootFS.DiffIDs)
	return func() {
		let()
		if c.sweeps.Load() != was {
			c.sweep(ctx)
		}
	}
}

// offer has an image's blobs go that are there a second time.
func (c *catalog) offer(ctx context.Context, e *entry) {
	if c.recall.Dropper == nil || e == nil {
		return
	}
	for _, m := range e.manifests {
		if m.kind != kindImage || !m.available {
			continue
		}
		if _, ok := c.layers.Unpacked(m.image.RootFS.DiffIDs); !ok {
			continue
		}
		var list []recall.Layer
		for i, l := range m.layers {
			if _, served := c.lazy.state(l.Digest); served && !c.layers.Here(m.image.RootFS.DiffIDs[i]) {
				continue // neither the blob nor the layer is here yet
			}
			if _, gone := c.recall.dropped(l.Digest); !gone {
				list = append(list, recall.Layer{Blob: l, DiffID: m.image.RootFS.DiffIDs[i]})
			}
		}
		if len(list) > 0 {
			c.recall.Dropper.Offer(c.content.Context(ctx), list)
		}
	}
}

// readable opens those of a manifest's blobs that have to be made first, so that what cannot be made is known before the
// first byte goes out; spared tells of those that will not be read. If one cannot, plain is the same manifest with that layer uncompressed, as it can always be had.
func (s *blobs) readable(ctx context.Context, m *manifest, spared func(ocispec.Descriptor, recall.Recipe) bool) (open map[digest.Digest]content.ReaderAt, plain *manifest, err error) {
	open = map[digest.Digest]content.ReaderAt{}
	replaced := map[int]ocispec.Descriptor{}
	for i, l := range m.layers {
		r, dropped := s.recall.dropped(l.Digest)
		if !dropped || r.Plain || open[l.Digest] != nil || spared(l, r) {
			continue
		}
		ra, err := s.content.Blobs().ReaderAt(ctx, l)
		if err == nil {
			open[l.Digest] = ra
			continue
		}
		if ctx.Err() != nil {
			return open, nil, context.Cause(ctx)
		}
		d, perr := s.enterPlain(ctx, l, m.image.RootFS.DiffIDs[i])
		if perr != nil {
			return open, nil, errors.Join(err, perr)
		}
		replaced[i] = d
	}
	if len(replaced) == 0 {
		return open, nil, nil
	}
	plain, err = s.restate(ctx, m, replaced)
	return open, plain, err
}

// enterPlain puts a layer's archive into the store, to be made when it is read.
func (s *blobs) enterPlain(ctx context.Context, l ocispec.Descriptor, diffID digest.Digest) (d ocispec.Descriptor, err error) {
	tar, err := s.recall.Layers.Tar(ctx, diffID)
	if err != nil {
		return d, err
	}
	defer tar.Close()
	v := diffID.Verifier()
	n, err := io.Copy(v, bound{ctx, tar})
	if err != nil {
		return d, err
	}
	if !v.Verified() {
		return d, mismatch("the layer "+l.Digest.String()+", made again of its files", diffID, "")
	}
	d = ocispec.Descriptor{MediaType: cimages.MediaTypeDockerSchema2Layer, Digest: diffID, Size: n}
	if isOCI(l.MediaType) {
		d.MediaType = ocispec.MediaTypeImageLayer
	}
	return d, s.recall.Shelf.Enter(ctx, d, recall.Recipe{DiffID: diffID, Plain: true})
}

// isOCI tells whether a layer's type is one of OCI's.
func isOCI(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd:
		return true
	}
	return false
}

// restate stores a manifest that has other layers, by their place, and is the same otherwise.
func (s *blobs) restate(ctx context.Context, m *manifest, layers map[int]ocispec.Descriptor) (*manifest, error) {
	body, err := content.ReadBlob(ctx, s.content.Blobs(), m.desc)
	if err != nil {
		return nil, err
	}
	n := *m
	n.layers = append([]ocispec.Descriptor(nil), m.layers...)
	for i, d := range layers {
		n.layers[i] = d
	}
	raw, err := withLayers(body, n.layers)
	if err != nil {
		return nil, err
	}
	stored, err := s.writeJSON(ctx, m.desc.MediaType, json.RawMessage(raw), n.children()...)
	if err != nil {
		return nil, err
	}
	n.desc = m.desc
	n.desc.Digest, n.desc.Size = stored.Digest, stored.Size
	return &n, nil
}

// restateIndex stores an index that has other manifests in the place of some, and is the same otherwise.
func (s *blobs) restateIndex(ctx context.Context, target ocispec.Descriptor, changed map[digest.Digest]ocispec.Descriptor) (ocispec.Descriptor, error) {
	idx, err := readJSON[ocispec.Index](ctx, s.content.Blobs(), target, maxManifest)
	if err != nil {
		return target, err
	}
	var here []ocispec.Descriptor
	for i, d := range idx.Manifests {
		if n, ok := changed[d.Digest]; ok {
			idx.Manifests[i].Digest, idx.Manifests[i].Size = n.Digest, n.Size
			here = append(here, n)
		}
	}
	stored, err := s.writeJSON(ctx, target.MediaType, idx, here...)
	if err != nil {
		return target, err
	}
	target.Digest, target.Size = stored.Digest, stored.Size
	return target, nil
}

// withLayers is a manifest with other layers; all else of it stays as it is.
func withLayers(body []byte, layers []ocispec.Descriptor) ([]byte, error) {
	return with(body, "layers", layers)
}

// withManifests is an index with other manifests in the place of some; all else of it stays as it is. What attested to those goes.
func withManifests(body []byte, changed map[digest.Digest]ocispec.Descriptor) ([]byte, error) {
	var idx ocispec.Index
	if err := json.Unmarshal(body, &idx); err != nil {
		return nil, fmt.Errorf("reading an index: %w", err)
	}
	list := slices.DeleteFunc(idx.Manifests, func(d ocispec.Descriptor) bool {
		_, other := changed[digest.Digest(d.Annotations[attestationOf])]
		return other
	})
	for i, d := range list {
		if n, ok := changed[d.Digest]; ok {
			list[i].Digest, list[i].Size = n.Digest, n.Size
		}
	}
	return with(body, "manifests", list)
}

// with is a document with another value in the place of one.
func with(body []byte, name string, v any) ([]byte, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	var err error
	if raw[name], err = json.Marshal(v); err != nil {
		return nil, err
	}
	return json.Marshal(raw)
}
