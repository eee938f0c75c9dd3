package registry

import (
	"context"
	"encoding/json"
	"io"

	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// Describe tells what a name means: its descriptor, and its platforms.
func (c *Client) Describe(ctx context.Context, named reference.Named, auth registry.AuthConfig) (out registry.DistributionInspect, err error) {
	r, err := c.Repository(ctx, named, auth)
	if err != nil {
		return out, err
	}
	defer r.Close()
	tag := ""
	switch n := named.(type) {
	case reference.Digested:
		tag = n.Digest().String()
	case reference.Tagged:
		tag = n.Tag()
	}
	if out.Descriptor, err = r.Resolve(ctx, tag); err != nil {
		return out, err
	}
	out.Platforms = []ocispec.Platform{}
	if cimages.IsIndexType(out.Descriptor.MediaType) {
		var idx ocispec.Index
		if err := r.document(ctx, out.Descriptor, maxManifest, &idx); err != nil {
			return out, err
		}
		for _, m := range idx.Manifests {
			if m.Platform != nil {
				out.Platforms = append(out.Platforms, *m.Platform)
			}
		}
		return out, nil
	}
	var m ocispec.Manifest
	if err := r.document(ctx, out.Descriptor, maxManifest, &m); err != nil {
		return out, err
	}
	if !cimages.IsConfigType(m.Config.MediaType) {
		return out, nil
	}
	var p ocispec.Platform
	if err := r.document(ctx, m.Config, maxConfig, &p); err != nil {
		return out, err
	}
	if p.OS != "" || p.Architecture != "" {
		out.Platforms = append(out.Platforms, p)
	}
	return out, nil
}

// maxConfig bounds an image's configuration, in bytes.
const maxConfig = 8 << 20

// document reads a small blob that is JSON.
func (r *Repository) document(ctx context.Context, d ocispec.Descriptor, limit int64, v any) error {
	if d.Size > limit || d.Digest.Validate() != nil {
		return classed.Invalid("%s of %s has %d bytes, more than %d, or no digest", d.MediaType, r.familiar, d.Size, limit)
	}
	rc, err := r.Fetch(ctx, d, 0)
	if err != nil {
		return err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		return err
	}
	if got := d.Digest.Algorithm().FromBytes(b); got != d.Digest {
		return classed.Invalid("the registry sent something with the digest %s for %s", got, d.Digest)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return classed.Invalid("%s is not the JSON it should be: %v", d.Digest, err)
	}
	return nil
}
