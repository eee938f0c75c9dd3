package images

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/images/transfer"
	"github.com/gantry-engine/gantry/internal/service/images/trust"
)

// puller gets images from registries.
type puller struct {
	catalog   *catalog
	store     *blobs
	registry  Registry
	sentry    *sentry
	transfers *transfer.Transfers
	announce  announcer

	lazyAlways atomic.Bool // pull every image lazily that can be
}

// PullLazily says whether images are pulled lazily also by those who do not ask for it.
func (p *puller) PullLazily(always bool) { p.lazyAlways.Store(always) }

// PullOptions say what to pull, and as whom.
type PullOptions struct {
	// Image is a repository, with a tag or a digest or without; Tag is either if Image has none. Without both, all tags are pulled.
	Image, Tag string
	// Platform is the host's if nil.
	Platform *ocispec.Platform
	Auth     registry.AuthConfig
	// Lazy leaves layers where they are, as far as they can be served from there: they come in when they are read, and in
	// the background.
	Lazy bool
}

// Pull gets an image, or all of a repository, from its registry.
func (p *puller) Pull(ctx context.Context, o PullOptions, out Progress) error {
	named, err := remoteName(o.Image, o.Tag)
	if err != nil {
		return err
	}
	repo, err := p.registry.Open(ctx, named, o.Auth)
	if err != nil {
		return err
	}
	defer repo.Close()
	anybody := o.Auth == registry.AuthConfig{}
	if !reference.IsNameOnly(named) {
		return p.one(ctx, repo, anybody, named, o, out)
	}
	tags, err := repo.Tags(ctx)
	if err != nil {
		return err
	}
	for _, t := range tags {
		tagged, err := reference.WithTag(named, t)
		if err != nil {
			return fmt.Errorf("the registry lists the tag %q: %w: %w", t, err, errdefs.ErrInvalidArgument)
		}
		if err := p.one(ctx, repo, anybody, tagged, o, out); err != nil {
			return err
		}
	}
	return nil
}

// remoteName is the canonical name of what is in a registry; the tag may be a digest, or empty.
func remoteName(image, tag string) (reference.Named, error) {
	if tag != "" {
		sep := ":"
		if digest.Digest(tag).Validate() == nil {
			sep = "@"
		}
		image += sep + tag
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil, classed.Errorf(errdefs.ErrInvalidArgument, "invalid reference format: %q: %v", image, err)
	}
	if c, ok := named.(reference.Canonical); ok { // a digest says all
		return reference.WithDigest(reference.TrimNamed(named), c.Digest())
	}
	return named, nil
}

// tagOf is the tag or the digest of a name.
func tagOf(named reference.Named) string {
	switch n := named.(type) {
	case reference.Digested:
		return n.Digest().String()
	case reference.Tagged:
		return n.Tag()
	}
	return ""
}

// one pulls one image, of a repository that is open to anybody or not.
func (p *puller) one(ctx context.Context, repo Repository, anybody bool, named reference.Named, o PullOptions, out Progress) error {
	target, err := repo.Resolve(ctx, tagOf(named))
	if err != nil {
		return err
	}
	proofs, err := p.sentry.Check(ctx, trust.Use{Named: named, Target: target, Repo: repo})
	if err != nil {
		return err
	}
	out.Step(tagOf(named), "Pulling from "+reference.Path(named))
	lazy := o.Lazy || p.lazyAlways.Load()
	if p.current(named, target, o.Platform, lazy) {
		if err := p.sentry.keep(ctx, target.Digest, proofs); err != nil {
			return err
		}
		out.Status("Digest: " + target.Digest.String())
		out.Status("Status: Image is up to date for " + reference.FamiliarString(named))
		return nil
	}
	in := &intake{puller: p, repo: repo, named: named, target: target, proofs: proofs, board: newBoard(out), auth: o.Auth}
	if anybody {
		in.source = named.Name()
	}
	defer in.leave()
	if lazy {
		in.lazy = p.catalog.lazy
	}
	e, err := in.pull(ctx, o.Platform)
	in.board.end() // what follows a transfer may be a moment late
	if err != nil {
		return err
	}
	if !lazy && p.catalog.lazy.any(e) {
		p.catalog.sweep(ctx) // what was served of it before is here now, and need not come in a second time
	}
	out.Status("Digest: " + target.Digest.String())
	out.Status("Status: Downloaded newer image for " + reference.FamiliarString(named))
	p.announce.named(events.ActionPull, target.Digest, reference.FamiliarString(named), e.labels())
	return nil
}

// current tells whether the name leads to the target already, and the platform is here and unpacked; layers that are served
// and come in as they should will do for a lazy pull.
func (p *puller) current(named reference.Named, target ocispec.Descriptor, platform *ocispec.Platform, lazy bool) bool {
	e := p.catalog.byNameExact(named.String())
	if e == nil || e.target.Digest != target.Digest {
		return false
	}
	m, err := p.catalog.host.choose(e, named.String(), platform)
	if err != nil {
		return false
	}
	for _, l := range m.layers {
		if s, ok := p.catalog.lazy.state(l.Digest); ok && (!lazy || s.Error != "") {
			return false
		}
	}
	_, ok := p.store.layers.Unpacked(m.image.RootFS.DiffIDs)
	return ok
}

// wanted chooses, of an index, the manifests of a platform (nil: the host's), best first, and what attests to the first.
func (h host) wanted(idx ocispec.Index, platform *ocispec.Platform) (chosen ocispec.Descriptor, attestations []ocispec.Descriptor, err error) {
	match := h.MatchComparer
	if platform != nil {
		match = platforms.OnlyStrict(platforms.Normalize(*platform))
	}
	found := false
	for _, d := range idx.Manifests {
		if d.Platform == nil || d.Annotations[attestationType] != "" || !cimages.IsManifestType(d.MediaType) || !match.Match(*d.Platform) {
			continue
		}
		if !found || match.Less(*d.Platform, *chosen.Platform) {
			chosen, found = d, true
		}
	}
	if !found {
		// An index of one manifest without a platform is what some tools make of a single image.
		if platform == nil && len(idx.Manifests) == 1 && idx.Manifests[0].Platform == nil && cimages.IsManifestType(idx.Manifests[0].MediaType) {
			return idx.Manifests[0], nil, nil
		}
		want := platforms.DefaultSpec()
		if platform != nil {
			want = *platform
		}
		return chosen, nil, classed.Errorf(errdefs.ErrNotFound, "no matching manifest for %s in the manifest list entries", platforms.FormatAll(want))
	}
	for _, d := range idx.Manifests {
		if d.Annotations[attestationType] == "attestation-manifest" && d.Annotations[attestationOf] == chosen.Digest.String() {
			attestations = append(attestations, d)
		}
	}
	return chosen, attestations, nil
}

// readAll reads a small blob whole, and checks what it is.
func readAll(r io.Reader, d ocispec.Descriptor) ([]byte, error) {
	b := make([]byte, d.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("reading %s: %w", d.Digest, err)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil && err != io.EOF { //nolint:errorlint // readers give io.EOF itself
		return nil, err
	}
	if got := d.Digest.Algorithm().FromBytes(b); got != d.Digest {
		return nil, mismatch("what the registry sent", d.Digest, got)
	}
	return b, nil
}
