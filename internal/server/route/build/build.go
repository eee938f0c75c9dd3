// Package build serves the builder's endpoints. There is no builder yet, so its cache is truthfully empty.
package build

import (
	"context"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/build"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
)

type router struct{}

// New makes the routes.
func New() httpapi.Router { return router{} }

func (router) Routes() []httpapi.Route {
	return []httpapi.Route{
		{Method: http.MethodPost, Path: "/build", Handler: notYet},
		{Method: http.MethodPost, Path: "/build/cancel", Handler: notYet},
		{Method: http.MethodPost, Path: "/build/prune", Handler: prune, Since: "1.31"},
	}
}

func notYet(context.Context, http.ResponseWriter, *http.Request, httpapi.Vars) error {
	return fmt.Errorf("building images is not supported by this version of the engine: %w", errdefs.ErrNotImplemented)
}

// prune frees nothing, because nothing is there.
func prune(_ context.Context, w http.ResponseWriter, r *http.Request, _ httpapi.Vars) error {
	if _, err := filters.Parse(r.FormValue("filters")); err != nil {
		return err
	}
	for _, size := range []string{"keep-storage", "reserved-space", "max-used-space", "min-free-space"} {
		if _, err := httpapi.Int64(r, size, 0); err != nil {
			return err
		}
	}
	return httpapi.WriteJSON(w, http.StatusOK, build.CachePruneReport{CachesDeleted: []string{}})
}
