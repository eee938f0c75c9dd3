package images

import (
	"context"
	"iter"

	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// sizes measures images on disk, in bytes.
type sizes struct {
	layers Layers
	recall Recall
}

// blobs is what an image's blobs take: those that are made again when they are read take nothing.
func (z sizes) blobs(content int64, list ...*manifest) int64 {
	for _, m := range list {
		for _, l := range m.layers {
			if _, dropped := z.recall.dropped(l.Digest); dropped {
				content -= l.Size
			}
		}
	}
	return content
}

// each gives the unpacked layers of a manifest with their sizes; none unless all are there.
func (z sizes) each(m *manifest) iter.Seq2[digest.Digest, int64] {
	return func(yield func(digest.Digest, int64) bool) {
		list, _ := z.layers.Unpacked(m.image.RootFS.DiffIDs)
		for i, n := range list {
			if !yield(m.image.RootFS.DiffIDs[i], n) {
				return
			}
		}
	}
}

// image is the size of an image's blobs and of its unpacked layers.
func (z sizes) image(e *entry) int64 {
	n := z.blobs(e.content, e.manifests...)
	for _, m := range e.manifests {
		n += z.unpacked(m)
	}
	return n
}

func (z sizes) unpacked(m *manifest) (n int64) {
	if m.kind != kindImage || !m.available {
		return 0
	}
	for _, b := range z.each(m) {
		n += b
	}
	return n
}

// shared is the size of the unpacked layers that an image has in common with others.
func (z sizes) shared(e *entry, images sharing) (size int64) {
	seen := map[digest.Digest]bool{}
	for _, m := range e.manifests {
		for d, b := range z.each(m) {
			if images[d] > 1 && !seen[d] {
				seen[d] = true
				size += b
			}
		}
	}
	return size
}

// sharing counts the images that have a layer.
type sharing map[digest.Digest]int

func sharingOf(all []*entry) sharing {
	n := sharing{}
	for _, e := range all {
		for d := range e.diffIDs() {
			n[d]++
		}
	}
	return n
}

// accountant accounts for the disk space of all images together.
type accountant struct{ query *querier }

// DiskUsage accounts for images: every blob and every layer once.
func (a *accountant) DiskUsage(ctx context.Context) (image.DiskUsage, error) {
	items, err := a.query.List(ctx, ListOptions{SharedSize: true})
	if err != nil {
		return image.DiskUsage{}, err
	}
	du := image.DiskUsage{Items: items, TotalCount: int64(len(items))}
	users := a.query.users.byImage(ctx)
	l := ledger{sizes: a.query.sizes, blobs: map[digest.Digest]bool{}, layers: map[digest.Digest]bool{}}
	var used int64
	all := a.query.catalog.all()
	for _, active := range []bool{true, false} { // what an image in use shares is not reclaimable
		for _, e := range all {
			if (len(users[e.target.Digest]) > 0) != active {
				continue
			}
			n := l.count(e)
			du.TotalSize += n
			if active {
				du.ActiveCount++
				used += n
			}
		}
	}
	du.Reclaimable = du.TotalSize - used
	return du, nil
}

// ledger holds what was counted already.
type ledger struct {
	sizes         sizes
	blobs, layers map[digest.Digest]bool
}

// count is the size of what an image adds to the images counted before.
func (l ledger) count(e *entry) (n int64) {
	for _, m := range e.manifests {
		for _, d := range append([]ocispec.Descriptor{e.target, m.desc}, m.children()...) {
			if _, dropped := l.sizes.recall.dropped(d.Digest); !dropped && !l.blobs[d.Digest] && m.available {
				l.blobs[d.Digest] = true
				n += d.Size
			}
		}
		for d, b := range l.sizes.each(m) {
			if !l.layers[d] {
				l.layers[d] = true
				n += b
			}
		}
	}
	return n
}
