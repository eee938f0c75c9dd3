// Package registries is what users ask registries without moving an image: whether they may log in, what there is, what a
// name means. Pulling and pushing are of the images' service.
package registries

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/filters"
)

// Remote asks registries. Implemented by driver/registry.
type Remote interface {
	// Login tries credentials; the token that stands for them is empty if the registry gives none.
	Login(ctx context.Context, auth registry.AuthConfig) (identityToken string, err error)
	// Describe tells what a name means: its descriptor, and its platforms.
	Describe(ctx context.Context, named reference.Named, auth registry.AuthConfig) (registry.DistributionInspect, error)
	// Search finds repositories. The term may begin with a registry's host.
	Search(ctx context.Context, term string, limit int, auth registry.AuthConfig) ([]registry.SearchResult, error)
}

// Service asks registries.
type Service struct{ remote Remote }

// New makes the service.
func New(r Remote) *Service { return &Service{r} }

// Login tries credentials.
func (s *Service) Login(ctx context.Context, auth registry.AuthConfig) (registry.AuthResponse, error) {
	token, err := s.remote.Login(ctx, auth)
	if err != nil {
		return registry.AuthResponse{}, err
	}
	return registry.AuthResponse{Status: "Login Succeeded", IdentityToken: token}, nil
}

// Describe tells what a reference means in its registry.
func (s *Service) Describe(ctx context.Context, ref string, auth registry.AuthConfig) (registry.DistributionInspect, error) {
	if digest.Digest(ref).Validate() == nil {
		return registry.DistributionInspect{}, classed.Invalid("unknown image reference format: %s", ref)
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return registry.DistributionInspect{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return s.remote.Describe(ctx, reference.TagNameOnly(named), auth)
}

// How many results a search gives.
const (
	defaultLimit = 25
	maxLimit     = 100
)

// Search finds repositories by a term.
func (s *Service) Search(ctx context.Context, term string, limit int, a filters.Args, auth registry.AuthConfig) ([]registry.SearchResult, error) {
	if err := a.Check("is-automated", "is-official", "stars"); err != nil {
		return nil, err
	}
	if limit == 0 {
		limit = defaultLimit
	}
	if limit < 1 || limit > maxLimit {
		return nil, classed.Invalid("limit %d is outside the range of [1, %d]", limit, maxLimit)
	}
	wanted, err := matcher(a)
	if err != nil {
		return nil, err
	}
	list, err := s.remote.Search(ctx, term, limit, auth)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(r registry.SearchResult) bool { return !wanted(r) }), nil
}

// matcher reads the filters of a search.
func matcher(a filters.Args) (func(registry.SearchResult) bool, error) {
	official, err := choice(a, "is-official")
	if err != nil {
		return nil, err
	}
	automated, err := choice(a, "is-automated")
	if err != nil {
		return nil, err
	}
	stars := 0
	for _, v := range a["stars"] {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, classed.Invalid("invalid filter 'stars=%s'", v)
		}
		stars = max(stars, n)
	}
	return func(r registry.SearchResult) bool {
		return r.StarCount >= stars && (official == nil || *official == r.IsOfficial) && (automated == nil || !*automated) // nothing is automated any more
	}, nil
}

// choice reads a filter that is true or false; nil is neither.
func choice(a filters.Args, key string) (*bool, error) {
	switch v := a[key]; {
	case len(v) == 0:
		return nil, nil
	case len(v) == 1 && (v[0] == "true" || v[0] == "1"):
		yes := true
		return &yes, nil
	case len(v) == 1 && (v[0] == "false" || v[0] == "0"):
		no := false
		return &no, nil
	default:
		return nil, classed.Invalid("invalid filter '%s=%s'", key, v)
	}
}
