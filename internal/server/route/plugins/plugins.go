// Package plugins serves /plugins: the engine has no managed plugins, so the
// list is truthfully empty and everything else says so.
package plugins

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
)

type router struct{}

// New makes the routes.
func New() httpapi.Router { return router{} }

func (router) Routes() []httpapi.Route {
	routes := []httpapi.Route{
		{Method: http.MethodGet, Path: "/plugins", Handler: list},
		{Method: http.MethodGet, Path: "/plugins/{name*}/json", Handler: missing},
		{Method: http.MethodDelete, Path: "/plugins/{name*}", Handler: missing},
		{Method: http.MethodGet, Path: "/plugins/privileges", Handler: notYet},
		{Method: http.MethodPost, Path: "/plugins/pull", Handler: notYet},
		{Method: http.MethodPost, Path: "/plugins/create", Handler: notYet},
	}
	for _, verb := range []string{"enable", "disable", "upgrade", "push", "set"} {
		routes = append(routes, httpapi.Route{Method: http.MethodPost, Path: "/plugins/{name*}/" + verb, Handler: missing})
	}
	for i := range routes { // managed plugins began with 1.25, their upgrade with 1.26
		routes[i].Since = "1.25"
		if strings.HasSuffix(routes[i].Path, "/upgrade") {
			routes[i].Since = "1.26"
		}
	}
	return routes
}

func list(_ context.Context, w http.ResponseWriter, r *http.Request, _ httpapi.Vars) error {
	f, err := filters.Parse(r.FormValue("filters"))
	if err != nil {
		return err
	}
	if err := f.Check("capability", "enabled"); err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, []struct{}{})
}

func missing(_ context.Context, _ http.ResponseWriter, _ *http.Request, v httpapi.Vars) error {
	return fmt.Errorf("plugin %q not found: this version of the engine has no managed plugins: %w", v["name"], errdefs.ErrNotFound)
}

func notYet(context.Context, http.ResponseWriter, *http.Request, httpapi.Vars) error {
	return fmt.Errorf("plugins are not supported by this version of the engine: %w", errdefs.ErrNotImplemented)
}
