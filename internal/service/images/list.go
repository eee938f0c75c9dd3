package images

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/filters"
)

// ListOptions are the query parameters of GET /images/json.
type ListOptions struct {
	Filters    filters.Args
	SharedSize bool
	Manifests  bool
	Containers bool // count those that use each image
}

// List lists images, newest first.
func (s *Service) List(ctx context.Context, o ListOptions) ([]image.Summary, error) {
	if err := o.Filters.Check("dangling", "label", "label!", "before", "since", "reference", "until"); err != nil {
		return nil, err
	}
	keep, err := s.filter(o.Filters)
	if err != nil {
		return nil, err
	}
	all := s.catalog.all()
	var users map[digest.Digest][]string
	if o.Containers || o.SharedSize || o.Manifests {
		users = s.users.byImage(ctx)
	}
	shares := s.shares(all)
	out := []image.Summary{}
	for _, e := range all {
		if !keep(e) {
			continue
		}
		sum := s.summary(e)
		if patterns := o.Filters["reference"]; len(patterns) > 0 { // an image's other names were not asked for
			other := func(name string) bool { return !matches(name, patterns) }
			sum.RepoTags, sum.RepoDigests = slices.DeleteFunc(sum.RepoTags, other), slices.DeleteFunc(sum.RepoDigests, other)
		}
		if o.SharedSize {
			sum.SharedSize = shares.of(s, e)
		}
		if o.Containers || o.SharedSize {
			sum.Containers = int64(len(users[e.target.Digest]))
		}
		if o.Manifests {
			sum.Manifests = s.manifests(e, users[e.target.Digest])
		}
		out = append(out, sum)
	}
	return out, nil
}

func (s *Service) summary(e *entry) image.Summary {
	target := e.target
	sum := image.Summary{
		ID: e.target.Digest.String(), Containers: -1, SharedSize: -1, Labels: map[string]string{},
		RepoTags: e.repoTags(), RepoDigests: e.repoDigests(), Descriptor: &target, Size: s.size(e),
	}
	if m, err := s.choose(e, "", nil); err == nil {
		if m.image.Created != nil {
			sum.Created = m.image.Created.Unix()
		}
		if m.image.Config.Labels != nil {
			sum.Labels = m.image.Config.Labels
		}
	}
	return sum
}

// size is that of an image's blobs and of its unpacked layers, in bytes.
func (s *Service) size(e *entry) int64 {
	n := e.content
	for _, m := range e.manifests {
		n += s.unpackedSize(m)
	}
	return n
}

func (s *Service) unpackedSize(m *manifest) (n int64) {
	if m.kind != kindImage || !m.available {
		return 0
	}
	sizes, _ := s.layers.Unpacked(m.image.RootFS.DiffIDs)
	for _, l := range sizes {
		n += l
	}
	return n
}

// filter makes one predicate of all filters.
func (s *Service) filter(a filters.Args) (func(*entry) bool, error) {
	dangling, err := a.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	before, after := time.Time{}, time.Time{}
	for _, key := range []string{"before", "since"} {
		for _, ref := range a[key] {
			e, _, err := s.catalog.find(ref)
			if err != nil {
				return nil, err
			}
			if c := e.created(); key == "before" && (before.IsZero() || c.Before(before)) {
				before = c
			} else if key == "since" && c.After(after) {
				after = c
			}
		}
	}
	until, err := parseUntil(a["until"])
	if err != nil {
		return nil, err
	}
	for _, p := range a["reference"] {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("invalid filter 'reference=%s': %w: %w", p, err, errdefs.ErrInvalidArgument)
		}
	}
	return func(e *entry) bool {
		c := e.created()
		switch {
		case a.Has("dangling") && dangling != (len(e.names) == 0),
			!before.IsZero() && !c.Before(before), !after.IsZero() && !c.After(after),
			!until.IsZero() && !c.Before(until),
			!a.Labels("label", e.labels()), !a.NoLabels("label!", e.labels()),
			a.Has("reference") && !e.matches(a["reference"]):
			return false
		}
		return true
	}, nil
}

// parseUntil reads the earliest of several times: UNIX seconds, a date, or a duration before now.
func parseUntil(values []string) (time.Time, error) {
	var first time.Time
	for _, v := range values {
		t, err := parseTime(v, time.Now())
		if err != nil {
			return first, fmt.Errorf("invalid filter 'until=%s': %w: %w", v, err, errdefs.ErrInvalidArgument)
		}
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	return first, nil
}

func parseTime(v string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(v); err == nil {
		return now.Add(-d), nil
	}
	if sec, nano, _ := strings.Cut(v, "."); sec != "" {
		if n, err := strconv.ParseInt(sec, 10, 64); err == nil {
			ns, _ := strconv.ParseInt((nano + "000000000")[:9], 10, 64)
			return time.Unix(n, ns), nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, v, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("neither a duration nor a time")
}

// sharing counts the images that have a layer.
type sharing map[digest.Digest]int

func (s *Service) shares(all []*entry) sharing {
	n := sharing{}
	for _, e := range all {
		for d := range e.diffIDs() {
			n[d]++
		}
	}
	return n
}

// of is the size of the unpacked layers that an image has in common with others.
func (n sharing) of(s *Service, e *entry) (size int64) {
	seen := map[digest.Digest]bool{}
	for _, m := range e.manifests {
		sizes, _ := s.layers.Unpacked(m.image.RootFS.DiffIDs)
		for i, b := range sizes {
			if d := m.image.RootFS.DiffIDs[i]; n[d] > 1 && !seen[d] {
				seen[d] = true
				size += b
			}
		}
	}
	return size
}

// manifests describes what an image is made of.
func (s *Service) manifests(e *entry, users []string) []image.ManifestSummary {
	out := []image.ManifestSummary{}
	for _, m := range e.manifests {
		sum := image.ManifestSummary{ID: m.desc.Digest.String(), Descriptor: m.desc, Available: m.available}
		sum.Size.Content = m.content
		sum.Size.Total = m.content
		switch m.kind {
		case kindImage:
			sum.Kind = image.ManifestKindImage
			p := image.ImageProperties{Platform: m.image.Platform, Containers: []string{}}
			p.Size.Unpacked = s.unpackedSize(m)
			sum.Size.Total += p.Size.Unpacked
			if first, err := s.choose(e, "", nil); err == nil && first == m && users != nil {
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

// Inspect describes an image. With a platform, it is that one's; manifests adds the list of all.
func (s *Service) Inspect(ctx context.Context, ref string, platform *ocispec.Platform, manifests bool) (*image.InspectResponse, error) {
	if platform != nil && manifests {
		return nil, fmt.Errorf("conflicting options: manifests and platform options cannot both be set: %w", errdefs.ErrInvalidArgument)
	}
	e, _, err := s.catalog.find(ref)
	if err != nil {
		return nil, err
	}
	target := e.target
	r := &image.InspectResponse{
		ID: e.target.Digest.String(), RepoTags: e.repoTags(), RepoDigests: e.repoDigests(), Descriptor: &target, Size: s.size(e),
		Metadata: image.Metadata{LastTagTime: e.tagged}, RootFS: image.RootFS{Type: "layers", Layers: []string{}},
	}
	m, err := s.choose(e, ref, platform)
	if err != nil {
		return nil, err
	}
	if platform != nil {
		r.Size = m.content + s.unpackedSize(m)
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
	if manifests {
		r.Manifests = s.manifests(e, s.users.byImage(ctx)[e.target.Digest])
	}
	return r, nil
}

// History lists how an image was made, the last step first.
func (s *Service) History(_ context.Context, ref string, platform *ocispec.Platform) ([]image.HistoryResponseItem, error) {
	e, _, err := s.catalog.find(ref)
	if err != nil {
		return nil, err
	}
	m, err := s.choose(e, ref, platform)
	if err != nil {
		return nil, err
	}
	sizes, _ := s.layers.Unpacked(m.image.RootFS.DiffIDs)
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

// DiskUsage accounts for images: every blob and every layer once.
func (s *Service) DiskUsage(ctx context.Context) (image.DiskUsage, error) {
	items, err := s.List(ctx, ListOptions{SharedSize: true})
	if err != nil {
		return image.DiskUsage{}, err
	}
	du := image.DiskUsage{Items: items, TotalCount: int64(len(items))}
	users := s.users.byImage(ctx)
	blobs, dirs := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	var used int64
	count := func(e *entry) (n int64) {
		for _, m := range e.manifests {
			for _, d := range append([]ocispec.Descriptor{e.target, m.desc, m.config}, m.layers...) {
				if !blobs[d.Digest] && m.available {
					blobs[d.Digest] = true
					n += d.Size
				}
			}
			sizes, _ := s.layers.Unpacked(m.image.RootFS.DiffIDs)
			for i, b := range sizes {
				if d := m.image.RootFS.DiffIDs[i]; !dirs[d] {
					dirs[d] = true
					n += b
				}
			}
		}
		return n
	}
	all := s.catalog.all()
	for _, active := range []bool{true, false} { // what an image in use shares is not reclaimable
		for _, e := range all {
			if (len(users[e.target.Digest]) > 0) != active {
				continue
			}
			n := count(e)
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

// Attestations checks what was asked for. No image here carries statements that
// could be read yet: an image with attestation manifests is refused, truthfully.
func (s *Service) Attestations(_ context.Context, ref string, platform *ocispec.Platform) error {
	e, _, err := s.catalog.find(ref)
	if err != nil {
		return err
	}
	m, err := s.choose(e, ref, platform)
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
