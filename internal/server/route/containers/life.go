package containers

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/containers"
)

type life struct {
	svc    Runner
	pauser Pauser
}

// done answers 204 unless err says otherwise.
func done(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

func (l life) start(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	if r.FormValue("checkpoint") != "" || r.FormValue("checkpoint-dir") != "" {
		return fmt.Errorf("starting from a checkpoint is not supported by this engine yet: %w", errdefs.ErrNotImplemented)
	}
	return done(w, l.svc.Start(ctx, vars["id"]))
}

func stopOptions(ctx context.Context, r *http.Request) (containers.StopOptions, error) {
	var o containers.StopOptions
	if !older(ctx, "1.42") {
		o.Signal = r.FormValue("signal")
	}
	if t := r.FormValue("t"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil {
			return o, fmt.Errorf("the query parameter t=%q is not a number of seconds: %w", t, errdefs.ErrInvalidArgument)
		}
		o.Timeout = &n
	}
	return o, nil
}

func (l life) stop(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	o, err := stopOptions(ctx, r)
	if err != nil {
		return err
	}
	return done(w, l.svc.Stop(ctx, vars["id"], o))
}

func (l life) restart(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	o, err := stopOptions(ctx, r)
	if err != nil {
		return err
	}
	return done(w, l.svc.Restart(ctx, vars["id"], o))
}

func (l life) kill(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	return done(w, l.svc.Kill(ctx, vars["id"], r.FormValue("signal")))
}

func (l life) pause(ctx context.Context, w http.ResponseWriter, _ *http.Request, vars httpapi.Vars) error {
	return done(w, l.pauser.Pause(ctx, vars["id"]))
}

func (l life) unpause(ctx context.Context, w http.ResponseWriter, _ *http.Request, vars httpapi.Vars) error {
	return done(w, l.pauser.Unpause(ctx, vars["id"]))
}
