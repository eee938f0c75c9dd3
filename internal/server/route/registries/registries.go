// Package registries is the door to what users ask registries without moving an image: /auth, /distribution and
// /images/search.
package registries

import (
	"context"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/registry"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
)

// Service is what this door needs.
type Service interface {
	Login(ctx context.Context, auth registry.AuthConfig) (registry.AuthResponse, error)
	Describe(ctx context.Context, ref string, auth registry.AuthConfig) (registry.DistributionInspect, error)
	Search(ctx context.Context, term string, limit int, a filters.Args, auth registry.AuthConfig) ([]registry.SearchResult, error)
}

// Router holds the endpoints.
type Router struct{ s Service }

// New makes the endpoints of s.
func New(s Service) *Router { return &Router{s} }

// Routes implements httpapi.Router.
func (r *Router) Routes() []httpapi.Route {
	return []httpapi.Route{
		{Method: http.MethodPost, Path: "/auth", Handler: r.login},
		{Method: http.MethodGet, Path: "/distribution/{name*}/json", Handler: r.describe, Since: "1.30"},
		{Method: http.MethodGet, Path: "/images/search", Handler: r.search},
	}
}

func (r *Router) login(ctx context.Context, w http.ResponseWriter, req *http.Request, _ httpapi.Vars) error {
	var auth registry.AuthConfig
	if err := httpapi.ReadJSON(req, &auth, true); err != nil {
		return err
	}
	out, err := r.s.Login(ctx, auth)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, out)
}

func (r *Router) describe(ctx context.Context, w http.ResponseWriter, req *http.Request, vars httpapi.Vars) error {
	out, err := r.s.Describe(ctx, vars["name"], httpapi.RegistryAuth(req))
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, out)
}

func (r *Router) search(ctx context.Context, w http.ResponseWriter, req *http.Request, _ httpapi.Vars) error {
	req.Form, req.PostForm = req.URL.Query(), url.Values{}
	a, err := filters.Parse(req.Form.Get("filters"))
	if err != nil {
		return err
	}
	limit, err := httpapi.Int64(req, "limit", 0)
	if err != nil {
		return err
	}
	list, err := r.s.Search(ctx, req.Form.Get("term"), int(limit), a, httpapi.RegistryAuth(req))
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, list)
}
