// Package swarm answers for the endpoints of services across machines, which
// the engine does not have yet, as an engine answers that is not part of a swarm.
package swarm

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
)

type router struct{}

// New makes the routes.
func New() httpapi.Router { return router{} }

// managerOnly are the endpoints that a node outside of a swarm answers with 503.
const managerOnly = `GET /swarm
POST /swarm/update
GET /swarm/unlockkey
GET /nodes
GET /nodes/{id}
DELETE /nodes/{id}
POST /nodes/{id}/update
GET /services
POST /services/create
GET /services/{id}
DELETE /services/{id}
POST /services/{id}/update
GET /services/{id}/logs
GET /tasks
GET /tasks/{id}
GET /tasks/{id}/logs
GET /secrets
POST /secrets/create
GET /secrets/{id}
DELETE /secrets/{id}
POST /secrets/{id}/update
GET /configs
POST /configs/create
GET /configs/{id}
DELETE /configs/{id}
POST /configs/{id}/update`

func (router) Routes() []httpapi.Route {
	routes := []httpapi.Route{
		{Method: http.MethodPost, Path: "/swarm/init", Handler: notYet},
		{Method: http.MethodPost, Path: "/swarm/join", Handler: notYet},
		{Method: http.MethodPost, Path: "/swarm/leave", Handler: noSwarm},
		{Method: http.MethodPost, Path: "/swarm/unlock", Handler: noSwarm},
	}
	for line := range strings.SplitSeq(managerOnly, "\n") {
		method, path, _ := strings.Cut(line, " ")
		since := ""
		switch {
		case strings.HasPrefix(path, "/secrets"):
			since = "1.25"
		case strings.HasPrefix(path, "/configs"):
			since = "1.30"
		}
		routes = append(routes, httpapi.Route{Method: method, Path: path, Handler: noManager, Since: since})
	}
	return routes
}

func noManager(context.Context, http.ResponseWriter, *http.Request, httpapi.Vars) error {
	return fmt.Errorf("This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.: %w", errdefs.ErrUnavailable)
}

func noSwarm(context.Context, http.ResponseWriter, *http.Request, httpapi.Vars) error {
	return fmt.Errorf("This node is not part of a swarm: %w", errdefs.ErrUnavailable)
}

func notYet(context.Context, http.ResponseWriter, *http.Request, httpapi.Vars) error {
	return fmt.Errorf("services across machines (swarm) are not supported by this version of the engine: %w", errdefs.ErrNotImplemented)
}
