package images

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// host is the platform of this machine, which images are made for unless another was asked for.
type host struct{ platforms.MatchComparer }

// choose takes the manifest for a platform; without one, the host's or else the first that is whole.
func (h host) choose(e *entry, ref string, platform *ocispec.Platform) (*manifest, error) {
	match := h.MatchComparer
	if platform != nil {
		match = platforms.OnlyStrict(platforms.Normalize(*platform))
	}
	var best, any *manifest
	for _, m := range e.manifests {
		if !m.available || m.kind != kindImage {
			continue
		}
		if any == nil {
			any = m
		}
		if match.Match(m.image.Platform) && (best == nil || match.Less(m.image.Platform, best.image.Platform)) {
			best = m
		}
	}
	switch {
	case best != nil:
		return best, nil
	case platform != nil:
		return nil, fmt.Errorf("image with reference %s was found but does not provide the specified platform (%s): %w", ref, platforms.FormatAll(*platform), errdefs.ErrNotFound)
	case any != nil:
		return any, nil
	}
	return nil, fmt.Errorf("image with reference %s was found but its content is not complete: %w", ref, errdefs.ErrNotFound)
}

// fits checks that an image of one platform is of the one that was asked for.
func (h host) fits(m *manifest, named reference.Named, platform *ocispec.Platform) error {
	if platform == nil || platforms.OnlyStrict(platforms.Normalize(*platform)).Match(m.image.Platform) {
		return nil
	}
	return classed.Errorf(errdefs.ErrNotFound, "image with reference %s was found but does not match the specified platform: wanted %s, actual: %s",
		reference.FamiliarString(named), platforms.FormatAll(platforms.Normalize(*platform)), platforms.FormatAll(platforms.Normalize(m.image.Platform)))
}

// provides checks that an archive's image is there for all platforms asked for.
func (e *entry) provides(wanted []ocispec.Platform) error {
	for _, p := range wanted {
		match := platforms.OnlyStrict(platforms.Normalize(p))
		found := false
		for _, m := range e.manifests {
			found = found || m.kind == kindImage && m.available && match.Match(m.image.Platform)
		}
		if !found {
			return fmt.Errorf("the image %s in the archive does not provide the platform %s: %w", e.target.Digest, platforms.FormatAll(p), errdefs.ErrNotFound)
		}
	}
	return nil
}
