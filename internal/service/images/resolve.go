package images

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/spec"
)

// resolver answers what containers ask of images when they are created. It implements containers.Images.
type resolver struct {
	catalog *catalog
	store   *blobs
	sentry  *sentry
}

// Resolve finds an unpacked image.
func (r *resolver) Resolve(ctx context.Context, ref string, platform *ocispec.Platform) (spec.Image, error) {
	e, name, err := r.catalog.find(ref)
	if err != nil {
		return spec.Image{}, err
	}
	m, err := r.catalog.host.choose(e, ref, platform)
	if err != nil {
		return spec.Image{}, err
	}
	if err := r.sentry.mayRun(ctx, e, name); err != nil {
		return spec.Image{}, err
	}
	if _, ok := r.store.layers.Unpacked(m.image.RootFS.DiffIDs); !ok {
		// Only after an image of another platform was loaded, or by a loss on disk.
		release, err := r.store.unpack(ctx, m, nil)
		if err != nil {
			return spec.Image{}, fmt.Errorf("unpacking image %s: %w", ref, err)
		}
		release()
	}
	r.catalog.uses.touch(e.target.Digest)
	img := spec.Image{
		ID: e.target.Digest, Manifest: m.desc.Digest, MediaType: m.desc.MediaType, Size: m.desc.Size, Config: m.config.Digest, Name: name,
		Platform: m.image.Platform, Runtime: m.image.Config, DiffIDs: m.image.RootFS.DiffIDs,
	}
	if m.image.Created != nil {
		img.Created = *m.image.Created
	}
	return img, nil
}

// Exists tells whether there is an image of this ID, or with a manifest or configuration of it.
func (r *resolver) Exists(_ context.Context, id string) bool {
	return r.catalog.byDigest(digest.Digest(id)) != nil
}
