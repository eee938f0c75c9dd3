package protocol

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/registryserver/naming"
	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

// How many entries a page has: when nothing is said, and at most.
const (
	page    = 1000
	maxPage = 10_000
)

// wanted reads how many entries somebody wants.
func (x *exchange) wanted(usual int) (int, error) {
	s := x.r.URL.Query().Get("n")
	if s == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, refusal.PageInvalid.New("n=%s is no number of results: 0 or more is needed", clip(s))
	}
	return min(n, maxPage), nil
}

// more says where a list goes on.
func (x *exchange) more(n int, last string) {
	q := url.Values{"n": {strconv.Itoa(n)}, "last": {last}}
	if a := x.r.URL.Query().Get("artifactType"); a != "" {
		q.Set("artifactType", a)
	}
	if ns := x.r.URL.Query().Get("ns"); ns != "" {
		q.Set("ns", ns)
	}
	x.w.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", x.r.URL.EscapedPath(), q.Encode()))
}

// tags answers the list of a repository's tags.
func (x *exchange) tags() error {
	n, err := x.wanted(maxPage)
	if err != nil {
		return err
	}
	list, more, err := x.Source.Tags(x.r.Context(), x.repo, x.r.URL.Query().Get("last"), n)
	if err != nil {
		return err
	}
	names := make([]string, len(list))
	for i, t := range list {
		names[i] = t.Name
	}
	if more && n > 0 {
		x.more(n, names[len(names)-1])
	}
	return x.encode(map[string]any{"name": x.repo, "tags": names})
}

// catalog answers the list of repositories.
func (x *exchange) catalog() error {
	n, err := x.wanted(page)
	if err != nil {
		return err
	}
	names, more, err := x.Lists.Repositories(x.r.URL.Query().Get("last"), n, x.id.Sees)
	if err != nil {
		return err
	}
	if more && n > 0 {
		x.more(n, names[len(names)-1])
	}
	if names == nil {
		names = []string{}
	}
	return x.encode(map[string]any{"repositories": names})
}

func (x *exchange) encode(v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		x.json(b)
	}
	return err
}

// referrers answers the list of manifests that have a manifest as their subject.
func (x *exchange) referrers() error {
	d, err := naming.Digest(x.reference)
	if err != nil {
		return err
	}
	n, err := x.wanted(page)
	if err != nil {
		return err
	}
	q := x.r.URL.Query()
	kind := q.Get("artifactType")
	list, more, err := x.Lists.Referrers(x.repo, d, kind, digest.Digest(q.Get("last")), n)
	if err != nil {
		return err
	}
	if more && n > 0 {
		x.more(n, list[len(list)-1].Digest.String())
	}
	if kind != "" {
		x.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if list == nil {
		list = []ocispec.Descriptor{}
	}
	b, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list})
	if err != nil {
		return err
	}
	x.w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	_, _ = x.w.Write(b)
	return nil
}
