// Package networks holds the endpoints below /networks: decode, call, encode.
package networks

import (
	"context"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
)

// Reader shows networks. Implemented by service/networks.
type Reader interface {
	List(ctx context.Context, args filters.Args) ([]network.Summary, error)
	Inspect(ctx context.Context, ref, scope string) (network.Inspect, error)
}

// Writer changes networks. Implemented by service/networks.
type Writer interface {
	Create(ctx context.Context, req network.CreateRequest) (network.CreateResponse, error)
	Remove(ctx context.Context, ref string) error
	Prune(ctx context.Context, args filters.Args) (network.PruneReport, error)
}

// Members changes which containers are on networks. Implemented by service/containers.
type Members interface {
	Connect(ctx context.Context, ref string, req network.ConnectRequest) error
	Disconnect(ctx context.Context, ref string, req network.DisconnectRequest) error
}

// Service is what the endpoints need of networks themselves.
type Service interface {
	Reader
	Writer
}

type router struct {
	svc     Service
	members Members
}

// New makes the router.
func New(svc Service, members Members) httpapi.Router { return router{svc, members} }

// fields are those of a network that came later, by the published descriptions.
var fields = []httpapi.Field{
	{Path: "Attachable", Since: "1.25"}, {Path: "Ingress", Since: "1.29"}, {Path: "ConfigFrom", Since: "1.30"}, {Path: "ConfigOnly", Since: "1.30"},
	{Path: "EnableIPv4", Since: "1.47"}, {Path: "Status", Since: "1.52"},
}

func (r router) Routes() []httpapi.Route {
	return []httpapi.Route{
		{Method: http.MethodGet, Path: "/networks", Handler: r.list, Fields: fields},
		{Method: http.MethodGet, Path: "/networks/", Handler: r.list, Fields: fields},
		{Method: http.MethodGet, Path: "/networks/{id}", Handler: r.inspect, Fields: fields},
		{Method: http.MethodPost, Path: "/networks/create", Handler: r.create},
		{Method: http.MethodPost, Path: "/networks/{id}/connect", Handler: r.connect},
		{Method: http.MethodPost, Path: "/networks/{id}/disconnect", Handler: r.disconnect},
		{Method: http.MethodPost, Path: "/networks/prune", Handler: r.prune, Since: "1.25"},
		{Method: http.MethodDelete, Path: "/networks/{id}", Handler: r.remove},
	}
}

// listed is a list's entry for old clients, which read containers from it too.
type listed struct {
	network.Network
	Containers map[string]network.EndpointResource
}

func (r router) list(ctx context.Context, w http.ResponseWriter, req *http.Request, _ httpapi.Vars) error {
	args, err := filters.Parse(req.FormValue("filters"))
	if err != nil {
		return err
	}
	all, err := r.svc.List(ctx, args)
	if err != nil {
		return err
	}
	if !httpapi.VersionLess(httpapi.Version(ctx), "1.28") {
		return httpapi.WriteJSON(w, http.StatusOK, all)
	}
	out := []listed{}
	for _, n := range all {
		full, err := r.svc.Inspect(ctx, n.ID, "")
		if err != nil {
			return err
		}
		out = append(out, listed{full.Network, full.Containers})
	}
	return httpapi.WriteJSON(w, http.StatusOK, out)
}

func (r router) inspect(ctx context.Context, w http.ResponseWriter, req *http.Request, vars httpapi.Vars) error {
	n, err := r.svc.Inspect(ctx, vars["id"], req.FormValue("scope"))
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, n)
}

func (r router) create(ctx context.Context, w http.ResponseWriter, req *http.Request, _ httpapi.Vars) error {
	var body network.CreateRequest
	if err := httpapi.ReadJSON(req, &body, false); err != nil {
		return err
	}
	if body.Name == "" {
		return fmt.Errorf("invalid network name: a name is needed: %w", errdefs.ErrInvalidArgument)
	}
	out, err := r.svc.Create(ctx, body)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusCreated, out)
}

func (r router) connect(ctx context.Context, w http.ResponseWriter, req *http.Request, vars httpapi.Vars) error {
	var body network.ConnectRequest
	if err := httpapi.ReadJSON(req, &body, false); err != nil {
		return err
	}
	if err := r.members.Connect(ctx, vars["id"], body); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (r router) disconnect(ctx context.Context, w http.ResponseWriter, req *http.Request, vars httpapi.Vars) error {
	var body network.DisconnectRequest
	if err := httpapi.ReadJSON(req, &body, false); err != nil {
		return err
	}
	if err := r.members.Disconnect(ctx, vars["id"], body); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (r router) prune(ctx context.Context, w http.ResponseWriter, req *http.Request, _ httpapi.Vars) error {
	args, err := filters.Parse(req.FormValue("filters"))
	if err != nil {
		return err
	}
	out, err := r.svc.Prune(ctx, args)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, out)
}

func (r router) remove(ctx context.Context, w http.ResponseWriter, _ *http.Request, vars httpapi.Vars) error {
	if err := r.svc.Remove(ctx, vars["id"]); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
