package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// tocAnnotation is, at a layer of a manifest, the digest of the table of contents of an eStargz layer. Nothing else
// proves what the layer says of itself before it is here.
const tocAnnotation = "containerd.io/snapshot/stargz/toc.digest"

// LazyLayer is a layer that is to be served although it is not here.
type LazyLayer struct {
	Blob   ocispec.Descriptor
	DiffID digest.Digest
	TOC    digest.Digest // of its table of contents
	Lowest bool          // of its image
	Image  string        // the canonical name it is pulled by
	Source string        // the repository, if it gives to everybody
}

// Served is where such a layer shows itself.
type Served struct {
	Dir     string // "" is none
	Size    int64  // of its files, in bytes
	Entries int64
	// Release ends the caller's hold. If it was kept (it is one of the layer store's), it is served for as long as that
	// has it, else no longer.
	Release func(kept bool)
}

// LazyState is how far a layer is that is served.
type LazyState struct {
	Served Served // without Release
	Here   int64  // bytes of the blob
	Size   int64  // of the blob
	Error  string // why it does not come in, or is not what it should be
}

// Lazy serves layers that are not here. Implemented by driver/lazy.
type Lazy interface {
	// Serve makes a layer show itself. errdefs.ErrNotImplemented says that the layer, its registry or the kernel
	// cannot: it has to be pulled.
	Serve(ctx context.Context, l LazyLayer, auth registry.AuthConfig) (Served, error)
	// State tells how far a layer is, by its blob; ok is false if it is not served.
	State(blob digest.Digest) (s LazyState, ok bool)
}

// lazily is Lazy, or nothing.
type lazily struct{ Lazy }

func (z lazily) state(blob digest.Digest) (LazyState, bool) {
	if z.Lazy == nil {
		return LazyState{}, false
	}
	return z.State(blob)
}

// present is the content store as an image sees it: a layer that is served is a part of it that is not missing.
type present struct {
	content.InfoReaderProvider
	lazy lazily
}

// Info implements content.InfoProvider.
func (p present) Info(ctx context.Context, d digest.Digest) (content.Info, error) {
	i, err := p.InfoReaderProvider.Info(ctx, d)
	if errdefs.IsNotFound(err) {
		if s, ok := p.lazy.state(d); ok {
			return content.Info{Digest: d, Size: s.Size}, nil
		}
	}
	return i, err
}

// serve has the layers served that can be, instead of having them come in. What cannot is pulled the ordinary way.
func (in *intake) serve(ctx context.Context, m *manifest, here map[digest.Digest]bool) {
	if in.lazy.Lazy == nil {
		return
	}
	in.served = map[digest.Digest]Served{}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(8)
	for i, l := range m.layers {
		diff := m.image.RootFS.DiffIDs[i]
		toc := digest.Digest(l.Annotations[tocAnnotation])
		if here[l.Digest] || toc.Validate() != nil || toc.Algorithm() != digest.SHA256 || in.store.layers.Here(diff) {
			continue
		}
		g.Go(func() error {
			s, err := in.lazy.Serve(ctx, LazyLayer{Blob: l, DiffID: diff, TOC: toc, Lowest: i == 0, Image: in.named.String(), Source: in.source}, in.auth)
			mu.Lock()
			defer mu.Unlock()
			_, twice := in.served[l.Digest]
			switch {
			case err != nil:
				in.catalog.log.Info("a layer is pulled, not served", "image", in.named.String(), "layer", l.Digest, "reason", err)
			case twice:
				s.Release(true) // the first one decides
			default:
				in.served[l.Digest] = s
			}
			return nil
		})
	}
	_ = g.Wait()
}

// arriver takes layers in that were served until they were here.
type arriver struct {
	catalog  *catalog
	store    *blobs
	announce announcer
	log      *slog.Logger
}

// Arrived takes in a layer whose blob is whole and lies where downloads lie (Content.Receive): it becomes a part of the store, and is
// unpacked for all images that have it. When that is done, nothing needs it to be served any more.
func (a *arriver) Arrived(ctx context.Context, l LazyLayer) error {
	held, release, err := a.store.content.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	users := a.users(l)
	if len(users) == 0 {
		return nil // its images are gone
	}
	if err := a.store.content.Adopt(held, []Arrival{{Digest: l.Blob.Digest, Size: l.Blob.Size, Source: l.Source}}); err != nil {
		return diskFull(err)
	}
	for _, m := range users {
		done, err := a.unpack(held, m)
		if err != nil {
			return fmt.Errorf("the layer %s of %s is here, and cannot be unpacked: %w", l.Blob.Digest, l.Image, err)
		}
		defer done()
	}
	for _, m := range users {
		if _, rest := a.unfinished(m); rest == 0 {
			a.tell(m, "lazy-complete", l, nil)
		}
	}
	go func() {
		a.catalog.sweep(ctx) // the layer as it was served has no user any more
		for _, m := range users {
			a.catalog.offer(ctx, a.catalog.byDigest(m.desc.Digest))
		}
	}()
	return nil
}

// users are the platforms' images that have a layer.
func (a *arriver) users(l LazyLayer) (list []*manifest) {
	for _, e := range a.catalog.all() {
		for _, m := range e.manifests {
			for i, d := range m.layers {
				if d.Digest == l.Blob.Digest && m.kind == kindImage && m.available && m.image.RootFS.DiffIDs[i] == l.DiffID {
					list = append(list, m)
					break
				}
			}
		}
	}
	return list
}

// unpack unpacks the layers that are here; the others are served on.
func (a *arriver) unpack(ctx context.Context, m *manifest) (done func(), err error) {
	layers, _ := a.unfinished(m)
	return a.store.layers.Unpack(a.store.content.Context(ctx), layers)
}

// unfinished are the layers of an image as they are now, and how many of them are not here.
func (a *arriver) unfinished(m *manifest) (layers []Layer, rest int) {
	layers = make([]Layer, len(m.layers))
	for i, l := range m.layers {
		layers[i] = Layer{DiffID: m.image.RootFS.DiffIDs[i], Open: func(ctx context.Context) (io.ReadCloser, error) {
			return a.store.openLayer(ctx, l, m.image.RootFS.DiffIDs[i])
		}}
		_, err := a.store.content.Blobs().Info(a.store.content.Context(context.Background()), l.Digest)
		if s, ok := a.catalog.lazy.state(l.Digest); ok && errdefs.IsNotFound(err) {
			layers[i].Served = s.Served
			rest++
		}
	}
	return layers, rest
}

// Troubled tells that a layer which is served does not come in, or is not what it should be.
func (a *arriver) Troubled(l LazyLayer, why error) {
	a.log.Error("a layer that is served as long as it is not here", "image", l.Image, "layer", l.Blob.Digest, "error", why)
	for _, m := range a.users(l) {
		a.tell(m, "lazy-error", l, why)
	}
}

func (a *arriver) tell(m *manifest, action events.Action, l LazyLayer, why error) {
	e := a.catalog.byDigest(m.desc.Digest)
	if e == nil {
		return
	}
	name := l.Image
	if n, err := reference.ParseNormalizedNamed(name); err == nil {
		name = reference.FamiliarString(n)
	}
	attrs := map[string]string{"name": name, "layer": l.Blob.Digest.String()}
	if why != nil {
		attrs["error"] = why.Error()
	}
	a.announce.send(events.ImageEventType, action, events.Actor{ID: e.target.Digest.String(), Attributes: attrs})
}

// errServed is a blob that is needed whole, and is not yet.
var errServed = errors.New("it is fetched when it is read, and in the background")

// notWhole says, of a blob that is missing, how far it is if it is served.
func (z lazily) notWhole(d digest.Digest, err error) error {
	s, ok := z.state(d)
	if !ok || err == nil || !errdefs.IsNotFound(err) {
		return err
	}
	if s.Error != "" {
		return fmt.Errorf("the layer %s is not here (%d of %d bytes; %s): %w", d, s.Here, s.Size, s.Error, errdefs.ErrUnavailable)
	}
	return fmt.Errorf("the layer %s is not here yet (%d of %d bytes): %w; try again later: %w", d, s.Here, s.Size, errServed, errdefs.ErrUnavailable)
}
