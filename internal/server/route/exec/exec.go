// Package exec serves the endpoints of further processes in containers: create,
// start (by a hijacked connection), resize, inspect.
package exec

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/containers"
)

// Service is what the routes need.
type Service interface {
	ExecCreate(ctx context.Context, ref string, req container.ExecCreateRequest) (string, error)
	ExecStart(ctx context.Context, id string, o containers.ExecStartOptions) error
	ExecInspect(ctx context.Context, id string) (container.ExecInspectResponse, error)
	ExecResize(ctx context.Context, id string, height, width uint16) error
}

type router struct{ s Service }

// New makes the routes.
func New(s Service) httpapi.Router { return router{s} }

func (rt router) Routes() []httpapi.Route {
	return []httpapi.Route{
		{Method: http.MethodPost, Path: "/containers/{id}/exec", Handler: rt.create},
		{Method: http.MethodPost, Path: "/exec/{id}/start", Handler: rt.start},
		{Method: http.MethodPost, Path: "/exec/{id}/resize", Handler: rt.resize},
		{Method: http.MethodGet, Path: "/exec/{id}/json", Handler: rt.inspect, Fields: []httpapi.Field{{Path: "Pid", Since: "1.25"}}},
	}
}

func (rt router) create(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	var req container.ExecCreateRequest
	if err := httpapi.ReadJSON(r, &req, false); err != nil {
		return err
	}
	if httpapi.VersionLess(httpapi.Version(ctx), "1.42") {
		req.ConsoleSize = nil
	}
	id, err := rt.s.ExecCreate(ctx, vars["id"], req)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusCreated, container.ExecCreateResponse{ID: id})
}

func (rt router) inspect(ctx context.Context, w http.ResponseWriter, _ *http.Request, vars httpapi.Vars) error {
	out, err := rt.s.ExecInspect(ctx, vars["id"])
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, out)
}

func (rt router) resize(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	h, err := side(r, "h")
	if err != nil {
		return err
	}
	width, err := side(r, "w")
	if err != nil {
		return err
	}
	if err := rt.s.ExecResize(ctx, vars["id"], h, width); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// side reads one side of a terminal's size in characters.
func side(r *http.Request, name string) (uint16, error) {
	n, err := httpapi.Int64(r, name, 0)
	if err == nil && (n < 0 || n > 0xffff) {
		err = fmt.Errorf("the query parameter %s=%d is not a terminal's size: %w", name, n, errdefs.ErrInvalidArgument)
	}
	return uint16(n), err
}

func (rt router) start(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	var req container.ExecStartRequest
	if err := httpapi.ReadJSON(r, &req, true); err != nil {
		return err
	}
	info, err := rt.s.ExecInspect(ctx, vars["id"])
	if err != nil {
		return err
	}
	opts := containers.ExecStartOptions{Detach: req.Detach, Tty: req.Tty, ConsoleSize: req.ConsoleSize}
	if opts.ConsoleSize != nil && !req.Tty {
		return fmt.Errorf("console size is only supported with TTY enabled: %w", errdefs.ErrInvalidArgument)
	}
	if req.Detach {
		if err := rt.s.ExecStart(ctx, vars["id"], opts); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	var conn *httpapi.Conn
	var out io.Writer
	opts.Open = func(mux bool) (st containers.Streams, err error) {
		if conn, err = httpapi.Hijack(w, r, mux); err != nil {
			return st, err
		}
		out = conn
		st = containers.Streams{Stdout: conn, Stderr: conn}
		if mux {
			m := httpapi.NewMux(conn)
			st.Stdout, st.Stderr = m.Stream(1), m.Stream(2)
			out = st.Stdout
		}
		st.Gone = conn.Left()
		if info.OpenStdin {
			st.Stdin = conn
		} else {
			conn.Drain()
		}
		return st, nil
	}
	err = rt.s.ExecStart(ctx, vars["id"], opts)
	if conn == nil {
		return err
	}
	if err != nil { // the status is out: the client reads the reason as output, the code by inspect
		_, _ = fmt.Fprintf(out, "%s\r\n", err)
	}
	conn.Finish()
	return nil
}
