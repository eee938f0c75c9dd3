package containers

import (
	"context"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/containers"
)

type maker struct{ svc Maker }

func (m maker) create(ctx context.Context, w http.ResponseWriter, r *http.Request, _ httpapi.Vars) error {
	var body createBody
	if err := httpapi.ReadJSON(r, &body, false); err != nil {
		return err
	}
	if body.Config == nil {
		return fmt.Errorf("config cannot be empty in order to create a container: %w", errdefs.ErrInvalidArgument)
	}
	if err := forget(ctx, &body); err != nil {
		return err
	}
	q := r.URL.Query()
	req := containers.CreateRequest{Name: q.Get("name"), Config: body.Config, HostConfig: body.HostConfig, Networking: body.NetworkingConfig}
	if p := q.Get("platform"); p != "" && !older(ctx, "1.41") {
		parsed, err := platforms.Parse(p)
		if err != nil {
			return fmt.Errorf("the platform %q cannot be read: %w: %w", p, err, errdefs.ErrInvalidArgument)
		}
		req.Platform = &parsed
	}
	resp, err := m.svc.Create(ctx, req)
	if err != nil {
		return err
	}
	if resp.Warnings == nil {
		resp.Warnings = []string{}
	}
	return httpapi.WriteJSON(w, http.StatusCreated, resp)
}

func (m maker) update(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	var u container.UpdateConfig
	if err := httpapi.ReadJSON(r, &u, false); err != nil {
		return err
	}
	resp, err := m.svc.Update(ctx, vars["id"], u)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, resp)
}

func (m maker) rename(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	if err := m.svc.Rename(ctx, vars["id"], r.FormValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (m maker) remove(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	o := containers.RemoveOptions{Volumes: httpapi.Bool(r, "v"), Force: httpapi.Bool(r, "force"), Link: httpapi.Bool(r, "link")}
	if err := m.svc.Remove(ctx, vars["id"], o); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (m maker) prune(ctx context.Context, w http.ResponseWriter, r *http.Request, _ httpapi.Vars) error {
	args, err := filters.Parse(r.FormValue("filters"))
	if err != nil {
		return err
	}
	rep, err := m.svc.Prune(ctx, args)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, rep)
}
