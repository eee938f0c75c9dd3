package images

import (
	"context"
	"slices"

	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/kit/filters"
)

// querier tells of the images that there are, and changes nothing.
type querier struct {
	catalog *catalog
	users   *users
	sizes   sizes
}

// ListOptions are the query parameters of GET /images/json.
type ListOptions struct {
	Filters    filters.Args
	SharedSize bool
	Manifests  bool
	Containers bool // count those that use each image
}

// List lists images, newest first.
func (q *querier) List(ctx context.Context, o ListOptions) ([]image.Summary, error) {
	if err := o.Filters.Check("dangling", "label", "label!", "before", "since", "reference", "until"); err != nil {
		return nil, err
	}
	keep, err := q.filter(o.Filters)
	if err != nil {
		return nil, err
	}
	all := q.catalog.all()
	var users map[digest.Digest][]string
	if o.Containers || o.SharedSize || o.Manifests {
		users = q.users.byImage(ctx)
	}
	shares := sharingOf(all)
	out := []image.Summary{}
	for _, e := range all {
		if !keep(e) {
			continue
		}
		sum := q.summary(e)
		if patterns := o.Filters["reference"]; len(patterns) > 0 { // an image's other names were not asked for
			other := func(name string) bool { return !matches(name, patterns) }
			sum.RepoTags, sum.RepoDigests = slices.DeleteFunc(sum.RepoTags, other), slices.DeleteFunc(sum.RepoDigests, other)
		}
		if o.SharedSize {
			sum.SharedSize = q.sizes.shared(e, shares)
		}
		if o.Containers || o.SharedSize {
			sum.Containers = int64(len(users[e.target.Digest]))
		}
		if o.Manifests {
			sum.Manifests = q.manifests(e, users[e.target.Digest])
		}
		out = append(out, sum)
	}
	return out, nil
}

func (q *querier) summary(e *entry) image.Summary {
	target := e.target
	sum := image.Summary{
		ID: e.target.Digest.String(), Containers: -1, SharedSize: -1, Labels: map[string]string{},
		RepoTags: e.repoTags(), RepoDigests: e.repoDigests(), Descriptor: &target, Size: q.sizes.image(e),
	}
	if m, err := q.catalog.host.choose(e, "", nil); err == nil {
		if m.image.Created != nil {
			sum.Created = m.image.Created.Unix()
		}
		if m.image.Config.Labels != nil {
			sum.Labels = m.image.Config.Labels
		}
	}
	return sum
}
