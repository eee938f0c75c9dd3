// Package session serves BuildKit's doors, POST /session and /grpc, which are not there yet.
package session

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
		{Method: http.MethodPost, Path: "/session", Handler: notYet, Since: "1.31"},
		{Method: http.MethodPost, Path: "/grpc", Handler: notYet, Since: "1.31"},
	}
}

func notYet(context.Context, http.ResponseWriter, *http.Request, httpapi.Vars) error {
	return fmt.Errorf("BuildKit sessions are not supported by this version of the engine: %w", errdefs.ErrNotImplemented)
}
