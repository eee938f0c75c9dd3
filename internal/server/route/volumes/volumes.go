// Package volumes holds the endpoints below /volumes: decode, call, encode.
package volumes

import (
	"context"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/volume"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
)

// Reader shows volumes. Implemented by service/volumes.
type Reader interface {
	List(ctx context.Context, args filters.Args) (volume.ListResponse, error)
	Inspect(ctx context.Context, name string) (volume.Volume, error)
}

// Writer changes volumes. Implemented by service/volumes.
type Writer interface {
	Create(ctx context.Context, req volume.CreateRequest) (volume.Volume, error)
	Remove(ctx context.Context, name string, force bool) error
	Prune(ctx context.Context, args filters.Args) (volume.PruneReport, error)
}

// Service is all that the endpoints need.
type Service interface {
	Reader
	Writer
}

type router struct{ svc Service }

// New makes the router.
func New(svc Service) httpapi.Router { return router{svc} }

// created says when: one volume's field that came later.
var created = []httpapi.Field{{Path: "CreatedAt", Since: "1.31"}}

func (r router) Routes() []httpapi.Route {
	return []httpapi.Route{
		{Method: http.MethodGet, Path: "/volumes", Handler: r.list, Fields: []httpapi.Field{{Path: "Volumes.CreatedAt", Since: "1.31"}}},
		{Method: http.MethodPost, Path: "/volumes/create", Handler: r.create, Fields: created},
		{Method: http.MethodPost, Path: "/volumes/prune", Handler: r.prune, Since: "1.25"},
		{Method: http.MethodGet, Path: "/volumes/{name}", Handler: r.inspect, Fields: created},
		{Method: http.MethodPut, Path: "/volumes/{name}", Handler: r.update, Since: "1.42"},
		{Method: http.MethodDelete, Path: "/volumes/{name}", Handler: r.remove},
	}
}

func (r router) list(ctx context.Context, w http.ResponseWriter, q *http.Request, _ httpapi.Vars) error {
	args, err := filters.Parse(q.FormValue("filters"))
	if err != nil {
		return err
	}
	l, err := r.svc.List(ctx, args)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, l)
}

func (r router) inspect(ctx context.Context, w http.ResponseWriter, _ *http.Request, vars httpapi.Vars) error {
	v, err := r.svc.Inspect(ctx, vars["name"])
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, v)
}

func (r router) create(ctx context.Context, w http.ResponseWriter, q *http.Request, _ httpapi.Vars) error {
	var req volume.CreateRequest
	if err := httpapi.ReadJSON(q, &req, true); err != nil {
		return err
	}
	v, err := r.svc.Create(ctx, req)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusCreated, v)
}

func (r router) remove(ctx context.Context, w http.ResponseWriter, q *http.Request, vars httpapi.Vars) error {
	if err := r.svc.Remove(ctx, vars["name"], httpapi.Bool(q, "force")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (r router) prune(ctx context.Context, w http.ResponseWriter, q *http.Request, _ httpapi.Vars) error {
	args, err := filters.Parse(q.FormValue("filters"))
	if err != nil {
		return err
	}
	// Before 1.42 a prune took named volumes along.
	if v := httpapi.Version(ctx); v != "" && httpapi.VersionLess(v, "1.42") {
		if args == nil {
			args = filters.Args{}
		}
		args["all"] = []string{"true"}
	}
	rep, err := r.svc.Prune(ctx, args)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, rep)
}

func (router) update(context.Context, http.ResponseWriter, *http.Request, httpapi.Vars) error {
	return fmt.Errorf("this node is not a swarm manager: cluster volumes need a swarm: %w", errdefs.ErrUnavailable)
}
