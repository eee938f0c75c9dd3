// Package containers holds the endpoints below /containers: decode, call, encode.
package containers

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/containers"
)

// All interfaces are implemented by service/containers.

// Reader shows containers.
type Reader interface {
	List(ctx context.Context, o containers.ListOptions) ([]container.Summary, error)
	Inspect(ctx context.Context, ref string, size bool) (container.InspectResponse, error)
	Top(ctx context.Context, ref, psArgs string) (container.TopResponse, error)
	Stats(ctx context.Context, ref string, streaming, oneShot bool, emit func(container.StatsResponse) error) error
}

// Files reads and writes file trees.
type Files interface {
	StatPath(ctx context.Context, ref, path string) (containers.PathStat, error)
	Archive(ctx context.Context, ref, path string) (io.ReadCloser, containers.PathStat, error)
	Extract(ctx context.Context, ref, path string, r io.Reader, o containers.TarInOptions) error
	Export(ctx context.Context, ref string) (io.ReadCloser, error)
	Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error)
}

// Maker makes, changes and removes containers.
type Maker interface {
	Create(ctx context.Context, req containers.CreateRequest) (container.CreateResponse, error)
	Update(ctx context.Context, ref string, u container.UpdateConfig) (container.UpdateResponse, error)
	Rename(ctx context.Context, ref, to string) error
	Remove(ctx context.Context, ref string, o containers.RemoveOptions) error
	Prune(ctx context.Context, args filters.Args) (container.PruneReport, error)
}

// Runner starts and stops them.
type Runner interface {
	Start(ctx context.Context, ref string) error
	Stop(ctx context.Context, ref string, o containers.StopOptions) error
	Restart(ctx context.Context, ref string, o containers.StopOptions) error
	Kill(ctx context.Context, ref, signal string) error
}

// Pauser freezes and thaws them.
type Pauser interface {
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
}

// Streamer connects clients with processes.
type Streamer interface {
	Attach(ctx context.Context, ref string, o containers.AttachOptions) error
	ReadLogs(ctx context.Context, ref string, o containers.LogOptions) (containers.LogStream, error)
	Wait(ctx context.Context, ref string, cond container.WaitCondition) (<-chan container.WaitResponse, error)
	Resize(ctx context.Context, ref string, height, width uint16) error
}

// Service is all that the endpoints need.
type Service interface {
	Reader
	Files
	Maker
	Runner
	Pauser
	Streamer
}

type router struct{ svc Service }

// New makes the router.
func New(svc Service) httpapi.Router { return router{svc} }

func (r router) Routes() []httpapi.Route {
	get := func(p string, h httpapi.Handler) httpapi.Route {
		return httpapi.Route{Method: http.MethodGet, Path: p, Handler: h}
	}
	post := func(p string, h httpapi.Handler) httpapi.Route {
		return httpapi.Route{Method: http.MethodPost, Path: p, Handler: h}
	}
	q, f, m, l, s := query{r.svc}, files{r.svc}, maker{r.svc}, life{r.svc, r.svc}, streams{r.svc}
	return []httpapi.Route{
		{Method: http.MethodGet, Path: "/containers/json", Handler: q.list, Fields: listFields},
		{Method: http.MethodGet, Path: "/containers/{id}/json", Handler: q.inspect, Fields: inspectFields},
		get("/containers/{id}/top", q.top), get("/containers/{id}/stats", q.stats),
		{Method: http.MethodHead, Path: "/containers/{id}/archive", Handler: f.head},
		get("/containers/{id}/archive", f.get),
		{Method: http.MethodPut, Path: "/containers/{id}/archive", Handler: f.put},
		get("/containers/{id}/export", f.export), get("/containers/{id}/changes", f.changes),
		post("/containers/create", m.create), post("/containers/{id}/update", m.update), post("/containers/{id}/rename", m.rename),
		{Method: http.MethodDelete, Path: "/containers/{id}", Handler: m.remove},
		{Method: http.MethodPost, Path: "/containers/prune", Handler: m.prune, Since: "1.25"},
		post("/containers/{id}/start", l.start), post("/containers/{id}/stop", l.stop), post("/containers/{id}/restart", l.restart),
		post("/containers/{id}/kill", l.kill), post("/containers/{id}/pause", l.pause), post("/containers/{id}/unpause", l.unpause),
		post("/containers/{id}/attach", s.attach), get("/containers/{id}/attach/ws", s.websocket),
		get("/containers/{id}/logs", s.logs), post("/containers/{id}/wait", s.wait), post("/containers/{id}/resize", s.resize),
	}
}

// older tells whether the client speaks an API below v.
func older(ctx context.Context, v string) bool {
	have := httpapi.Version(ctx)
	return have != "" && httpapi.VersionLess(have, v)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}
