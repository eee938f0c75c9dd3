package images

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/gantry-engine/gantry/internal/service/images/recall"
)

// parcel is a blob on its way out.
type parcel struct {
	ocispec.Descriptor               // as the images that are here have it
	diffID             digest.Digest // of an image's layer, else ""

	sent  ocispec.Descriptor // as the registry has it: another one if it was compressed for this
	open  func() (content.ReaderAt, error)
	from  content.ReaderAt // once it was opened
	lost  bool             // it is not to be had any more as it came
	stale bool             // what was compressed the last time cannot be made again
}

func (p *parcel) layer() bool { return cimages.IsLayerType(p.MediaType) }

// read opens the blob once.
func (p *parcel) read() (content.ReaderAt, error) {
	if p.from == nil {
		ra, err := p.open()
		if err != nil {
			return nil, err
		}
		p.from = ra
	}
	return p.from, nil
}

func (p *parcel) close() {
	if p.from != nil {
		_ = p.from.Close()
		p.from = nil
	}
}

// pack takes a manifest's blobs in.
func (g *outgo) pack(m *manifest) {
	for i, d := range m.children() {
		if g.parcels[d.Digest] != nil {
			continue
		}
		p := &parcel{Descriptor: d, sent: d}
		if m.kind == kindImage && i > 0 {
			p.diffID = m.image.RootFS.DiffIDs[i-1]
		}
		g.parcels[d.Digest] = p
	}
}

// lost tells whether a layer had to be sent otherwise than it came.
func (g *outgo) lost() bool {
	for _, p := range g.parcels {
		if p.lost {
			return true
		}
	}
	return false
}

// send sends the blobs that the registry does not have.
func (g *outgo) send(ctx context.Context) error {
	eg, ctx := errgroup.WithContext(ctx)
	for _, p := range g.parcels {
		if Foreign(p.MediaType) {
			g.board.step(p.Digest, "Skipped foreign layer")
			continue
		}
		if p.layer() {
			g.board.step(p.Digest, "Preparing")
		}
		p.open = func() (content.ReaderAt, error) {
			ra, err := g.store.content.Blobs().ReaderAt(ctx, p.Descriptor)
			return ra, g.catalog.lazy.notWhole(p.Digest, err)
		}
		eg.Go(func() error {
			defer p.close()
			if p.diffID != "" && isPlain(p.Descriptor) {
				if err := g.press(ctx, p); err != nil {
					return err
				}
			}
			release, err := g.slots.Acquire(ctx)
			if err != nil {
				return err
			}
			defer release()
			return g.deliver(ctx, p)
		})
	}
	return eg.Wait()
}

// press has a layer sent compressed by us.
func (g *outgo) press(ctx context.Context, p *parcel) error {
	release, err := g.presses.Acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	p.close()
	p.sent, p.from, err = g.store.compressed(ctx, p.Descriptor, p.diffID, p.stale)
	p.open = func() (content.ReaderAt, error) { return g.store.content.Blobs().ReaderAt(ctx, p.sent) }
	return err
}

// deliver sends a blob, unless the registry has it; a layer that cannot be had any more as it came is sent as it can be.
func (g *outgo) deliver(ctx context.Context, p *parcel) error {
	err := g.upload(ctx, p)
	if p.diffID == "" || !errors.Is(err, recall.ErrLost) || p.stale {
		return err
	}
	if p.sent.Digest == p.Digest {
		p.lost = true
	} else {
		p.stale = true
	}
	if err := g.press(ctx, p); err != nil {
		return err
	}
	return g.deliver(ctx, p)
}

// upload sends a blob as it is; clients hear of layers.
func (g *outgo) upload(ctx context.Context, p *parcel) error {
	tell := func(status string) {
		if p.layer() {
			g.board.step(p.Digest, status)
		}
	}
	has, err := g.repo.Has(ctx, p.sent)
	if err != nil {
		return err
	}
	if has {
		tell("Layer already exists")
		return nil
	}
	mounted, err := g.repo.Upload(ctx, p.sent, g.elsewhere(p.Digest), func(offset int64) (io.ReadCloser, error) {
		ra, err := p.read()
		if err != nil {
			return nil, err
		}
		r := io.Reader(io.NewSectionReader(ra, offset, p.sent.Size-offset))
		if p.layer() {
			r = g.board.counting(ocispec.Descriptor{Digest: p.Digest, Size: p.sent.Size}, "Pushing", offset, r)
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
