package containers

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/containers"
)

type query struct{ svc Reader }

func (q query) list(ctx context.Context, w http.ResponseWriter, r *http.Request, _ httpapi.Vars) error {
	args, err := filters.Parse(r.FormValue("filters"))
	if err != nil {
		return err
	}
	if args.Has("annotation") && older(ctx, "1.56") {
		return invalid("invalid filter 'annotation': API version 1.56 has it first")
	}
	limit, err := httpapi.Int64(r, "limit", 0)
	if err != nil {
		return err
	}
	list, err := q.svc.List(ctx, containers.ListOptions{All: httpapi.Bool(r, "all"), Size: httpapi.Bool(r, "size"), Limit: int(limit), Filters: args})
	if err != nil {
		return err
	}
	for i := range list {
		if older(ctx, "1.52") {
			list[i].Health = nil
		}
		if older(ctx, "1.48") {
			list[i].ImageManifestDescriptor = nil
		}
		if older(ctx, "1.46") {
			list[i].HostConfig.Annotations = nil
		}
	}
	return httpapi.WriteJSON(w, http.StatusOK, list)
}

func (q query) inspect(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	c, err := q.svc.Inspect(ctx, vars["id"], httpapi.Bool(r, "size"))
	if err != nil {
		return err
	}
	if !older(ctx, "1.52") {
		return httpapi.WriteJSON(w, http.StatusOK, c)
	}
	return httpapi.WriteJSON(w, http.StatusOK, inspectBefore152(ctx, c))
}

func (q query) top(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	t, err := q.svc.Top(ctx, vars["id"], r.FormValue("ps_args"))
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, t)
}

func (q query) stats(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	streaming := r.FormValue("stream") == "" || httpapi.Bool(r, "stream")
	enc := json.NewEncoder(w)
	begun := false
	err := q.svc.Stats(ctx, vars["id"], streaming, httpapi.Bool(r, "one-shot"), func(s container.StatsResponse) error {
		if !begun {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusOK)
			begun = true
		}
		if older(ctx, "1.52") {
			s.OSType = ""
		}
		if err := enc.Encode(s); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	})
	if begun {
		return nil // the status is out: the stream just ends
	}
	return err
}
