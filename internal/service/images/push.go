package images

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/images/transfer"
)

// pusher sends images to registries.
type pusher struct {
	catalog  *catalog
	store    *blobs
	registry Registry
	sentry   *sentry
	slots    *transfer.Slots
	presses  *transfer.Slots // bounds how many layers are compressed at once
	announce announcer
}

// PushOptions say what to push, and as whom.
type PushOptions struct {
	// Image is a repository, with a tag if Tag is empty. Without any, all tags of the repository are pushed.
	Image, Tag string
	// Platform is the only one to be pushed; nil pushes what the name leads to.
	Platform *ocispec.Platform
	Auth     registry.AuthConfig
}

// Push sends an image, or all of a repository, to its registry.
func (p *pusher) Push(ctx context.Context, o PushOptions, out Progress) error {
	named, err := remoteName(o.Image, o.Tag)
	if err != nil {
		return err
	}
	if _, ok := named.(reference.Digested); ok {
		return classed.Invalid("cannot push a digest reference")
	}
	names := p.names(named)
	if len(names) == 0 {
		if reference.IsNameOnly(named) || len(p.names(reference.TrimNamed(named))) == 0 {
			return classed.Errorf(errdefs.ErrNotFound, "An image does not exist locally with the tag: %s", reference.FamiliarName(named))
		}
		return classed.Errorf(errdefs.ErrNotFound, "tag does not exist: %s", reference.FamiliarString(named))
	}
	repo, err := p.registry.Open(ctx, named, o.Auth)
	if err != nil {
		return err
	}
	defer repo.Close()
	out.Status("The push refers to repository [" + named.Name() + "]")
	for _, n := range names {
		g := &outgo{pusher: p, repo: repo, named: n, board: newBoard(out), out: out, parcels: map[digest.Digest]*parcel{}}
		err := g.push(ctx, o.Platform)
		g.board.end()
		if err != nil {
			return err
		}
	}
	return nil
}

// names are the tags that are here of what a user wants to push.
func (p *pusher) names(named reference.Named) (list []reference.NamedTagged) {
	for _, e := range p.catalog.all() {
		for _, n := range e.names {
			have, err := reference.ParseNormalizedNamed(n)
			if err != nil || have.Name() != named.Name() {
				continue
			}
			if t, ok := have.(reference.NamedTagged); ok && (reference.IsNameOnly(named) || n == named.String()) {
				list = append(list, t)
			}
		}
	}
	slices.SortFunc(list, func(a, b reference.NamedTagged) int { return strings.Compare(a.Tag(), b.Tag()) })
	return list
}

// outgo is one image on its way out: the blobs side by side, then the manifests, which say what blobs were sent, then the
// index, the tag with the last.
type outgo struct {
	*pusher
	repo    Repository
	named   reference.NamedTagged
	board   *board
	out     Progress
	parcels map[digest.Digest]*parcel
}

func (g *outgo) push(ctx context.Context, platform *ocispec.Platform) error {
	e := g.catalog.byNameExact(g.named.String())
	if e == nil {
		return classed.Errorf(errdefs.ErrNotFound, "tag does not exist: %s", reference.FamiliarString(g.named))
	}
	held, release, err := g.store.content.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	chosen, root, err := g.choose(e, platform)
	if err != nil {
		return err
	}
	for _, m := range chosen {
		defer g.catalog.use(held, m)()
		g.pack(m)
	}
	failpoint.Hit("gantryd.push-prepared")
	err = g.send(held)
	g.board.end()
	if err != nil {
		return err
	}
	failpoint.Hit("gantryd.push-sent")
	docs, err := g.documents(held, chosen, root)
	if err != nil {
		return err
	}
	for i, doc := range docs {
		tag := ""
		if i == len(docs)-1 {
			tag = g.named.Tag()
		}
		if err := g.repo.Put(held, doc.mediaType, tag, doc.body); err != nil {
			return err
		}
	}
	failpoint.Hit("gantryd.push-stored")
	last := docs[len(docs)-1]
	d := digest.FromBytes(last.body)
	if err := g.catalog.sent(held, g.named.String(), e.target, d); err != nil {
		return err
	}
	if err := g.sentry.sendKept(held, g.repo, d, g.out); err != nil {
		return err
	}
	g.out.Status(fmt.Sprintf("%s: digest: %s size: %d", g.named.Tag(), d, len(last.body)))
	g.out.Aux(map[string]any{"Tag": g.named.Tag(), "Digest": d.String(), "Size": len(last.body)})
	g.announce.named(events.ActionPush, e.target.Digest, reference.FamiliarString(g.named), e.labels())
	return nil
}

// choose says which manifests go, and the index above them if it goes, too: only a whole one does.
func (g *outgo) choose(e *entry, platform *ocispec.Platform) (chosen []*manifest, root *ocispec.Descriptor, err error) {
	if platform != nil {
		m, err := g.catalog.host.choose(e, reference.FamiliarString(g.named), platform)
		return []*manifest{m}, nil, err
	}
	if !cimages.IsIndexType(e.target.MediaType) {
		if !e.whole() {
			return nil, nil, incompletePush(g.named)
		}
		return e.manifests, nil, nil
	}
	if e.whole() && g.compressed(e.manifests) {
		return e.manifests, &e.target, nil
	}
	for _, m := range e.manifests {
		if m.available && m.kind == kindImage {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return nil, nil, incompletePush(g.named)
	}
	if len(chosen) > 1 {
		m, err := g.catalog.host.choose(e, reference.FamiliarString(g.named), nil)
		if err != nil {
			return nil, nil, err
		}
		chosen = []*manifest{m}
	}
	g.out.Aux(map[string]any{"manifestPushedInsteadOfIndex": true, "originalIndex": e.target, "selectedManifest": chosen[0].desc})
	g.out.Status(fmt.Sprintf("Not all platforms of %s are here: only %s is pushed", reference.FamiliarString(g.named), platforms.FormatAll(chosen[0].image.Platform)))
	return chosen, nil, nil
}

func incompletePush(named reference.Named) error {
	return classed.Errorf(errdefs.ErrNotFound, "%s cannot be pushed: its content is not complete here, pull it again", reference.FamiliarString(named))
}

// compressed tells whether all layers are: what is not is sent compressed, in another manifest, that an index does not know.
func (g *outgo) compressed(list []*manifest) bool {
	for _, m := range list {
		if slices.ContainsFunc(m.layers, isPlain) && m.kind == kindImage {
			return false
		}
	}
	return true
}

// isPlain tells whether a layer is not compressed.
func isPlain(d ocispec.Descriptor) bool {
	return d.MediaType == ocispec.MediaTypeImageLayer || d.MediaType == cimages.MediaTypeDockerSchema2Layer
}

// sentDocument is a manifest or an index to be sent.
type sentDocument struct {
	mediaType string
	body      []byte
}

// documents are the manifests, then the index, as they are here, but for what they say of blobs that were compressed for this.
func (g *outgo) documents(ctx context.Context, chosen []*manifest, root *ocispec.Descriptor) (docs []sentDocument, err error) {
	changed := map[digest.Digest]ocispec.Descriptor{}
	for _, m := range chosen {
		body, err := content.ReadBlob(ctx, g.store.content.Blobs(), m.desc)
		if err != nil {
			return nil, err
		}
		if layers, other := g.sentLayers(m); other {
			if body, err = withLayers(body, layers); err != nil {
				return nil, err
			}
			changed[m.desc.Digest] = ocispec.Descriptor{Digest: digest.FromBytes(body), Size: int64(len(body))}
		}
		docs = append(docs, sentDocument{m.desc.MediaType, body})
	}
	if g.lost() {
		g.out.Status(reference.FamiliarString(g.named) + ": some layers are not to be had any more as they came, and are compressed anew: the digest will be another")
	}
	if root == nil {
		return docs, nil
	}
	body, err := content.ReadBlob(ctx, g.store.content.Blobs(), *root)
	if err == nil && len(changed) > 0 {
		body, err = withManifests(body, changed)
	}
	return append(docs, sentDocument{root.MediaType, body}), err
}

// sentLayers are an image's layers as they were sent, and whether one is another than here.
func (g *outgo) sentLayers(m *manifest) (layers []ocispec.Descriptor, other bool) {
	layers = slices.Clone(m.layers)
	for i, l := range layers {
		if p := g.parcels[l.Digest]; p != nil && p.sent.Digest != l.Digest {
			layers[i], other = p.sent, true
			layers[i].MediaType = gzipType(l.MediaType)
		}
	}
	return layers, other
}
