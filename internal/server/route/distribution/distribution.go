// Package distribution serves GET /distribution/{name}/json: asking registries is not there yet.
package distribution

import (
	"context"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
)

type router struct{}

// New makes the routes.
func New() httpapi.Router { return router{} }

func (router) Routes() []httpapi.Route {
	return []httpapi.Route{
		{Method: http.MethodGet, Path: "/distribution/{name*}/json", Handler: notYet, Since: "1.30"},
	}
}

func notYet(context.Context, http.ResponseWriter, *http.Request, httpapi.Vars) error {
	return fmt.Errorf("inspecting images in registries is not supported by this version of the engine: %w", errdefs.ErrNotImplemented)
}
