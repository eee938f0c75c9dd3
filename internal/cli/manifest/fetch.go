package manifest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/cli/ref"
)

// Bounds of what registries send, in bytes.
const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
)

// blob reads a manifest or a configuration whole, and checks it.
func blob(ctx context.Context, r Repository, d ocispec.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit || d.Size < 0 || d.Digest.Validate() != nil {
		return nil, fmt.Errorf("%q has %d bytes, more than %d, or no digest that is understood: %w", d.Digest, d.Size, limit, errdefs.ErrInvalidArgument)
	}
	rc, err := r.Fetch(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(rc, limit+1))
	if err != nil {
		return nil, err
	}
	if got := d.Digest.Algorithm().FromBytes(b); got != d.Digest {
		return nil, fmt.Errorf("the registry sent %s for %s: %w", got, d.Digest, errdefs.ErrDataLoss)
	}
	return b, nil
}

// fetch gets what a name means: a single manifest as an entry, or a list's bytes with its descriptor.
func fetch(ctx context.Context, r Repository, name ref.Ref) (e Entry, isIndex bool, err error) {
	tag := name.Tag
	if name.Digest != "" {
		tag = name.Digest
	}
	d, err := r.Resolve(ctx, tag)
	if err != nil {
		return e, false, unknown(name, err)
	}
	b, err := blob(ctx, r, d, maxManifest)
	if err != nil {
		return e, false, unknown(name, err)
	}
	d = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: int64(len(b))}
	if isList(d.MediaType) {
		return Entry{Ref: name.String(), Descriptor: d, Raw: b}, true, nil
	}
	e, err = single(name, d, b)
	if err != nil {
		return e, false, err
	}
	e.Descriptor.Platform, err = platformOf(ctx, r, b)
	return e, false, err
}

// single makes the entry of a manifest of one image.
func single(name ref.Ref, d ocispec.Descriptor, b []byte) (Entry, error) {
	e := Entry{Ref: name.String(), Descriptor: d, Raw: b}
	var compact bytes.Buffer
	if err := json.Compact(&compact, b); err != nil {
		return e, fmt.Errorf("the manifest of %s is not JSON: %w", name, err)
	}
	switch d.MediaType {
	case dockerManifest:
		e.SchemaV2Manifest = compact.Bytes()
	case ocispec.MediaTypeImageManifest:
		e.OCIManifest = compact.Bytes()
	}
	return e, nil
}

// platformOf reads from an image's configuration what it is made for; what is no image is for nothing.
func platformOf(ctx context.Context, r Repository, manifest []byte) (*ocispec.Platform, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, fmt.Errorf("a manifest is not as it should be: %w", err)
	}
	p := &ocispec.Platform{}
	if m.Config.MediaType != dockerConfig && m.Config.MediaType != ocispec.MediaTypeImageConfig {
		return p, nil
	}
	b, err := blob(ctx, r, m.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of an image: %w", err)
	}
	if err := json.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("the configuration %s of an image is not as it should be: %w", m.Config.Digest, err)
	}
	return p, nil
}
