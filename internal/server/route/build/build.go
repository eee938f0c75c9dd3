// Package build serves POST /build/cancel. There is no builder yet, so there is
// nothing to cancel; the other endpoints of builds stand with the images.
package build

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
	return []httpapi.Route{{Method: http.MethodPost, Path: "/build/cancel", Handler: cancel, Since: "1.39"}}
}

func cancel(_ context.Context, _ http.ResponseWriter, r *http.Request, _ httpapi.Vars) error {
	id := r.FormValue("id")
	if id == "" {
		return fmt.Errorf("build ID not provided: %w", errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("no build %q is running: building images is not supported by this version of the engine: %w", id, errdefs.ErrNotImplemented)
}
