package images

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Inspect describes an image. With a platform, it is that one's; manifests adds the list of all.
func (q *querier) Inspect(ctx context.Context, ref string, platform *ocispec.Platform, manifests bool) (*image.InspectResponse, error) {
	if platform != nil && manifests {
		return nil, fmt.Errorf("conflicting options: manifests and platform options cannot both be set: %w", errdefs.ErrInvalidArgument)
	}
	e, m, err := q.catalog.lookUp(ref, platform)
	if err != nil {
		return nil, err
	}
	target := e.target
	r := &image.InspectResponse{
		ID: e.target.Digest.String(), RepoTags: e.repoTags(), RepoDigests: e.repoDigests(), Descriptor: &target, Size: q.sizes.image(e),
		Metadata: image.Metadata{LastTagTime: e.tagged}, RootFS: image.RootFS{Type: "layers", Layers: []string{}},
	}
	if platform != nil {
		r.Size = q.sizes.blobs(m.content, m) + q.sizes.unpacked(m)
		r.Descriptor = &m.desc
	}
	r.Author, r.Architecture, r.Variant, r.Os, r.OsVersion = m.image.Author, m.image.Architecture, m.image.Variant, m.image.OS, m.image.OSVersion
	if m.image.Created != nil {
		r.Created = m.image.Created.Format(time.RFC3339Nano)
	}
	if h := m.image.History; len(h) > 0 {
		r.Comment = h[len(h)-1].Comment
	}
	config := m.image.Config
	r.Config = &config
	for _, d := range m.image.RootFS.DiffIDs {
		r.RootFS.Layers = append(r.RootFS.Layers, d.String())
	}
	r.GraphDriver = q.catalog.lazy.progress(m)
	if manifests {
		r.Manifests = q.manifests(e, q.users.byImage(ctx)[e.target.Digest])
	}
	return r, nil
}

// manifests describes what an image is made of.
func (q *querier) manifests(e *entry, users []string) []image.ManifestSummary {
	out := []image.ManifestSummary{}
	for _, m := range e.manifests {
		sum := image.ManifestSummary{ID: m.desc.Digest.String(), Descriptor: m.desc, Available: m.available}
		sum.Size.Content = m.content
		sum.Size.Total = q.sizes.blobs(m.content, m)
		switch m.kind {
		case kindImage:
			sum.Kind = image.ManifestKindImage
			p := image.ImageProperties{Platform: m.image.Platform, Containers: []string{}}
			p.Size.Unpacked = q.sizes.unpacked(m)
			sum.Size.Total += p.Size.Unpacked
			if first, err := q.catalog.host.choose(e, "", nil); err == nil && first == m && users != nil {
				p.Containers = users
			}
			sum.ImageData = &p
		case kindAttestation:
			sum.Kind = image.ManifestKindAttestation
			sum.AttestationData = &image.AttestationProperties{For: m.subject}
		default:
			sum.Kind = image.ManifestKindUnknown
		}
		out = append(out, sum)
	}
	return out
}

// History lists how an image was made, the last step first.
func (q *querier) History(_ context.Context, ref string, platform *ocispec.Platform) ([]image.HistoryResponseItem, error) {
	e, m, err := q.catalog.lookUp(ref, platform)
	if err != nil {
		return nil, err
	}
	sizes, _ := q.sizes.layers.Unpacked(m.image.RootFS.DiffIDs)
	out := []image.HistoryResponseItem{}
	layer := 0
	for _, h := range m.image.History {
		item := image.HistoryResponseItem{ID: "<missing>", Comment: h.Comment, CreatedBy: h.CreatedBy}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer {
			if layer < len(sizes) {
				item.Size = sizes[layer]
			}
			layer++
		}
		out = append(out, item)
	}
	slices.Reverse(out)
	if len(out) > 0 {
		out[0].ID = e.target.Digest.String()
		if tags := e.repoTags(); len(tags) > 0 {
			out[0].Tags = tags
		}
	}
	return out, nil
}

// Attestations checks what was asked for. No image here carries statements that
// could be read yet: an image with attestation manifests is refused, truthfully.
func (q *querier) Attestations(_ context.Context, ref string, platform *ocispec.Platform) error {
	e, m, err := q.catalog.lookUp(ref, platform)
	if err != nil {
		return err
	}
	for _, a := range e.manifests {
		if a.kind == kindAttestation && a.subject == m.desc.Digest {
			return fmt.Errorf("reading attestations is not implemented yet: %w", errdefs.ErrNotImplemented)
		}
	}
	return nil
}
