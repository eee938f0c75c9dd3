package images

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits of what is parsed.
const (
	maxManifest = 4 << 20 // bytes; the distribution specification asks for no more
	maxConfig   = 8 << 20
	maxChildren = 1024 // manifests of one index
	maxLayers   = 1024
)

// The annotations by which BuildKit marks, in an index, a manifest that attests to another one.
const (
	attestationType = "vnd.docker.reference.type"
	attestationOf   = "vnd.docker.reference.digest"
)

// imageConfig is an image's configuration, with what Docker adds to OCI's.
type imageConfig = dockerspec.DockerOCIImage

// kind is what a manifest describes.
type kind uint8

const (
	kindImage kind = iota
	kindAttestation
	kindUnknown
)

// manifest is one platform's image, as parsed. It never changes.
type manifest struct {
	desc      ocispec.Descriptor
	kind      kind
	config    ocispec.Descriptor
	layers    []ocispec.Descriptor
	image     dockerspec.DockerOCIImage
	content   int64 // bytes of the blobs that are here
	available bool  // every blob is here
	subject   digest.Digest
}

// readEntry reads the manifests and configurations of the image that target describes. It has no names yet.
func readEntry(ctx context.Context, blobs content.InfoReaderProvider, target ocispec.Descriptor) (*entry, error) {
	e := &entry{target: target}
	if !cimages.IsIndexType(target.MediaType) {
		m, err := readManifest(ctx, blobs, target)
		if err != nil {
			return nil, err
		}
		e.manifests, e.content = []*manifest{m}, m.content
		return e, nil
	}
	idx, err := readJSON[ocispec.Index](ctx, blobs, target, maxManifest)
	if err != nil {
		return nil, err
	}
	if len(idx.Manifests) > maxChildren {
		return nil, fmt.Errorf("the index %s has %d manifests, more than %d: %w", target.Digest, len(idx.Manifests), maxChildren, errdefs.ErrInvalidArgument)
	}
	e.content = target.Size
	for _, d := range idx.Manifests {
		if !cimages.IsManifestType(d.MediaType) {
			continue
		}
		m, err := readManifest(ctx, blobs, d)
		if errdefs.IsNotFound(err) {
			m, err = &manifest{desc: d, kind: kindUnknown}, nil
		}
		if err != nil {
			return nil, err
		}
		e.manifests = append(e.manifests, m)
		e.content += m.content
	}
	return e, nil
}

// readManifest reads one platform's manifest and, if it is here, its configuration.
func readManifest(ctx context.Context, blobs content.InfoReaderProvider, d ocispec.Descriptor) (*manifest, error) {
	raw, err := readJSON[ocispec.Manifest](ctx, blobs, d, maxManifest)
	if err != nil {
		return nil, err
	}
	m := &manifest{desc: d, config: raw.Config, layers: raw.Layers, content: d.Size, available: true}
	if len(m.layers) > maxLayers {
		return nil, fmt.Errorf("the manifest %s has %d layers, more than %d: %w", d.Digest, len(m.layers), maxLayers, errdefs.ErrInvalidArgument)
	}
	for _, b := range m.children() {
		if _, err := blobs.Info(ctx, b.Digest); errdefs.IsNotFound(err) {
			m.available = false
		} else if err != nil {
			return nil, err
		} else {
			m.content += b.Size
		}
	}
	switch {
	case d.Annotations[attestationType] == "attestation-manifest":
		m.kind, m.subject = kindAttestation, digest.Digest(d.Annotations[attestationOf])
		return m, nil
	case !cimages.IsConfigType(raw.Config.MediaType):
		m.kind = kindUnknown
		return m, nil
	}
	m.image, err = readJSON[dockerspec.DockerOCIImage](ctx, blobs, raw.Config, maxConfig)
	if errdefs.IsNotFound(err) {
		if d.Platform != nil {
			m.image.Platform = *d.Platform
		}
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", d.Digest, err)
	}
	return m, m.check()
}

// Foreign tells whether a layer's type says that it is to be had elsewhere, and not given away by registries.
func Foreign(mediaType string) bool {
	return strings.Contains(mediaType, ".foreign.") || strings.Contains(mediaType, ".nondistributable.")
}

// children are the blobs that a manifest leads to: the configuration first, then the layers.
func (m *manifest) children() []ocispec.Descriptor {
	return append([]ocispec.Descriptor{m.config}, m.layers...)
}

// check compares a manifest with its configuration.
func (m *manifest) check() error {
	if len(m.image.RootFS.DiffIDs) != len(m.layers) {
		return fmt.Errorf("invalid image: the manifest %s has %d layers, its configuration %d diff IDs: %w", m.desc.Digest, len(m.layers), len(m.image.RootFS.DiffIDs), errdefs.ErrInvalidArgument)
	}
	for _, d := range m.image.RootFS.DiffIDs {
		if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
			return fmt.Errorf("invalid image: the configuration %s has the diff ID %q: %w", m.config.Digest, d, errdefs.ErrInvalidArgument)
		}
	}
	if m.image.OS == "" {
		m.image.OS = "linux"
	}
	return nil
}

// readJSON reads and decodes a blob of bounded size.
func readJSON[T any](ctx context.Context, p content.Provider, d ocispec.Descriptor, limit int64) (v T, err error) {
	if d.Size > limit {
		return v, fmt.Errorf("%s has %d bytes, more than %d: %w", d.Digest, d.Size, limit, errdefs.ErrInvalidArgument)
	}
	b, err := content.ReadBlob(ctx, p, d)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("%s is not the JSON it should be: %w: %w", d.Digest, err, errdefs.ErrInvalidArgument)
	}
	return v, nil
}
