package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/images/recall"
)

// pusher sends images to registries.
type pusher struct {
	catalog  *catalog
	store    *blobs
	registry Registry
	sentry   *sentry
	slots    *slots
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
		g := &outgo{pusher: p, repo: repo, named: n, board: newBoard(out), out: out}
		err := g.push(ctx, o.Platform)
		if errors.Is(err, recall.ErrLost) { // the registry does not have any more what was pulled from it
			g = &outgo{pusher: p, repo: repo, named: n, board: newBoard(out), out: out, sure: true}
			err = g.push(ctx, o.Platform)
		}
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

// outgo is one image on its way out: the blobs side by side, then the manifests, then the index, the tag with the last.
type outgo struct {
	*pusher
	repo  Repository
	named reference.NamedTagged
	board *board
	out   Progress
	anew  bool // blobs were made that no image leads to
	sure  bool // what may not be there is not relied upon
}

// sentDocument is a manifest or an index to be sent.
type sentDocument struct {
	mediaType string
	body      []byte
}

// sentBlob is a blob to be sent. local is its digest in the images that are here, which differs where it was compressed for
// this.
type sentBlob struct {
	ocispec.Descriptor
	local digest.Digest
	from  content.ReaderAt // if it is open already
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
	defer func() {
		release()
		if g.anew {
			g.catalog.sweep(ctx)
		}
	}()
	chosen, root, err := g.choose(e, platform)
	if err != nil {
		return err
	}
	var blobs []sentBlob
	var docs []sentDocument
	defer func() {
		for _, b := range blobs {
			if b.from != nil {
				_ = b.from.Close()
			}
		}
	}()
	for _, m := range chosen {
		defer g.catalog.use(held, m)()
		doc, parts, err := g.prepare(held, m)
		docs, blobs = append(docs, doc), append(blobs, parts...)
		if err != nil {
			return err
		}
	}
	if root != nil {
		body, err := content.ReadBlob(held, g.store.content.Blobs(), *root)
		if err != nil {
			return err
		}
		docs = append(docs, sentDocument{root.MediaType, body})
	}
	failpoint.Hit("gantryd.push-prepared")
	err = g.send(held, blobs)
	g.board.end()
	if err != nil {
		return err
	}
	failpoint.Hit("gantryd.push-sent")
	for _, m := range chosen {
		_ = g.store.dropGzipped(held, m.layers) // what is kept costs disk space, nothing else
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

// prepare gives the manifest to send, and the blobs it leads to. Layers that are not compressed are now; so are those
// whose blobs cannot be had any more.
func (g *outgo) prepare(ctx context.Context, m *manifest) (sentDocument, []sentBlob, error) {
	open, plain, err := g.store.readable(ctx, m, g.there(ctx))
	if plain != nil {
		g.out.Status(reference.FamiliarString(g.named) + ": some layers are not to be had any more as they came, and are compressed anew: the digest will be another")
		m, g.anew = plain, true
	}
	var parts []sentBlob
	for _, d := range m.children() {
		parts = append(parts, sentBlob{d, d.Digest, open[d.Digest]})
		delete(open, d.Digest)
	}
	for _, ra := range open {
		_ = ra.Close()
	}
	if err != nil {
		return sentDocument{}, parts, err
	}
	body, err := content.ReadBlob(ctx, g.store.content.Blobs(), m.desc)
	if err != nil {
		return sentDocument{}, parts, err
	}
	if m.kind != kindImage || !slices.ContainsFunc(m.layers, isPlain) {
		return sentDocument{m.desc.MediaType, body}, parts, nil
	}
	layers := slices.Clone(m.layers)
	for i, l := range layers {
		if isPlain(l) {
			g.board.step(l.Digest, "Preparing")
			if layers[i], err = g.store.gzipped(ctx, l); err != nil {
				return sentDocument{}, parts, fmt.Errorf("compressing the layer %s: %w", l.Digest, err)
			}
			parts[1+i].Descriptor = layers[i]
		}
	}
	raw, err := withLayers(body, layers)
	if err != nil {
		return sentDocument{}, parts, err
	}
	if body, err = json.Marshal(raw); err != nil {
		return sentDocument{}, parts, err
	}
	return sentDocument{m.desc.MediaType, body}, parts, nil
}

// there tells of blobs that need not be read: the registry has them, or had them when they were pulled from it.
func (g *outgo) there(ctx context.Context) func(l ocispec.Descriptor, r recall.Recipe) bool {
	return func(l ocispec.Descriptor, r recall.Recipe) bool {
		if named, err := reference.ParseNormalizedNamed(r.Source); !g.sure && err == nil && reference.Domain(named) == reference.Domain(g.named) {
			return true
		}
		has, err := g.repo.Has(ctx, l)
		return err == nil && has
	}
}

// send sends the blobs that the registry does not have.
func (g *outgo) send(ctx context.Context, blobs []sentBlob) error {
	eg, ctx := errgroup.WithContext(ctx)
	seen := map[digest.Digest]bool{}
	for _, d := range blobs {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		if Foreign(d.MediaType) {
			g.board.step(d.Digest, "Skipped foreign layer")
			continue
		}
		layer := cimages.IsLayerType(d.MediaType)
		if layer {
			g.board.step(d.Digest, "Preparing")
		}
		eg.Go(func() error {
			release, err := g.slots.acquire(ctx)
			if err != nil {
				return err
			}
			defer release()
			return g.blob(ctx, d, layer)
		})
	}
	return eg.Wait()
}

// blob sends one blob; clients hear of layers.
func (g *outgo) blob(ctx context.Context, d sentBlob, layer bool) error {
	tell := func(status string) {
		if layer {
			g.board.step(d.Digest, status)
		}
	}
	has, err := g.repo.Has(ctx, d.Descriptor)
	if err != nil {
		return err
	}
	if has {
		tell("Layer already exists")
		return nil
	}
	var opened content.ReaderAt
	defer func() {
		if opened != nil {
			_ = opened.Close()
		}
	}()
	blob := sync.OnceValues(func() (content.ReaderAt, error) {
		if d.from != nil {
			return d.from, nil
		}
		ra, err := g.store.content.Blobs().ReaderAt(ctx, d.Descriptor)
		opened = ra
		return ra, g.catalog.lazy.notWhole(d.Digest, err)
	})
	mounted, err := g.repo.Upload(ctx, d.Descriptor, g.elsewhere(d.local), func(offset int64) (io.ReadCloser, error) {
		ra, err := blob()
		if err != nil {
			return nil, err
		}
		r := io.Reader(io.NewSectionReader(ra, offset, d.Size-offset))
		if layer {
			r = g.board.counting(d.Descriptor, "Pushing", offset, r)
		}
		return io.NopCloser(r), nil
	})
	switch {
	case err != nil:
		return err
	case mounted != "":
		tell("Mounted from " + mounted)
	default:
		tell("Pushed")
	}
	return nil
}

// maxMounts bounds in how many repositories the registry is asked for a blob.
const maxMounts = 3

// elsewhere are repositories of the same registry that should have the blob: images with it here are named so.
func (g *outgo) elsewhere(d digest.Digest) (repos []string) {
	for _, e := range g.catalog.all() {
		if !slices.ContainsFunc(e.manifests, func(m *manifest) bool {
			return slices.ContainsFunc(m.layers, func(l ocispec.Descriptor) bool { return l.Digest == d })
		}) {
			continue
		}
		for _, n := range e.names {
			named, err := reference.ParseNormalizedNamed(n)
			if err != nil || reference.Domain(named) != reference.Domain(g.named) {
				continue
			}
			if path := reference.Path(named); path != reference.Path(g.named) && !slices.Contains(repos, path) && len(repos) < maxMounts {
				repos = append(repos, path)
			}
		}
	}
	return repos
}
