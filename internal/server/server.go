// Package server is the engine's HTTP server: listeners, version negotiation,
// routing, and errors as status codes. It knows nothing of containers.
//
// The life of a request: listener → Server.ServeHTTP (headers, version prefix,
// panic guard) → table.find → httpapi.Handler of a route package → error → status.
//
// The server listens before the engine is ready: /_ping answers at once, every
// other request waits for Ready.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
)

// The API versions that are spoken.
const (
	MinVersion = "1.24"
	MaxVersion = "1.56"
)

// Observer is told of every request that was answered; route is the pattern.
type Observer interface {
	Observe(method, route string, status int, took time.Duration)
}

// Options are what the server says of itself and whom it tells.
type Options struct {
	Product      string // of the Server header, e.g. "Gantry/1.0"
	Experimental bool
	Log          *slog.Logger
	Observer     Observer // may be nil
}

// Server answers the Engine API on any number of listeners.
type Server struct {
	o     Options
	http  *http.Server
	base  context.Context
	end   context.CancelCauseFunc
	ready chan struct{}

	routes *table // set once, before ready is closed
	once   sync.Once
}

// New makes a server that answers pings only, until Ready.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Server{o: o, ready: make(chan struct{})}
	s.base, s.end = context.WithCancelCause(context.Background())
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: time.Minute,
		BaseContext:       func(net.Listener) context.Context { return s.base },
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return s
}

// Ready brings the routes; requests that waited go on. It must be called once.
func (s *Server) Ready(routers ...httpapi.Router) error {
	t, err := newTable(routers)
	if err != nil {
		return err
	}
	s.once.Do(func() { s.routes = t; close(s.ready) })
	return nil
}

// Serve answers connections of l until Shutdown. It returns nil after Shutdown.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the API on %s: %w", l.Addr(), err)
	}
	return nil
}

var errShutdown = errors.New("the daemon is shutting down")

// Shutdown closes the listeners and waits, up to ctx, for short requests. Streams
// (logs, events, attach) see their context end at once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.end(errShutdown)
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	started := time.Now()
	w := &writer{ResponseWriter: rw}
	h := w.Header()
	h.Set("Server", s.o.Product+" (linux)")
	h.Set("Api-Version", MaxVersion)
	h.Set("Ostype", "linux")
	h.Set("Docker-Experimental", fmt.Sprint(s.o.Experimental))

	pattern := "unknown"
	err := s.guard(func() (err error) {
		pattern, err = s.handle(w, r)
		return err
	})
	if err != nil {
		s.fail(w, r, err)
	}
	took := time.Since(started)
	if s.o.Log.Enabled(r.Context(), slog.LevelDebug) {
		s.o.Log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", w.code(), "took", took)
	}
	if s.o.Observer != nil {
		s.o.Observer.Observe(r.Method, pattern, w.code(), took)
	}
}

func (s *Server) handle(w *writer, r *http.Request) (pattern string, err error) {
	version, path, err := negotiate(r.URL.Path)
	if err != nil {
		return "version", err
	}
	if path == "/_ping" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		return path, ping(w, r)
	}
	select {
	case <-s.ready:
	default:
		select {
		case <-s.ready:
		case <-r.Context().Done():
			return "waiting", fmt.Errorf("the engine is not ready: %w: %w", context.Cause(r.Context()), errdefs.ErrUnavailable)
		}
	}
	rt, vars := s.routes.find(r.Method, path)
	if rt == nil {
		return "unknown", fmt.Errorf("page not found: %w", errdefs.ErrNotFound)
	}
	if rt.Since != "" && httpapi.VersionLess(version, rt.Since) { // 400: 404 is what a missing object gives
		return rt.Path, fmt.Errorf("%s %s requires minimum API version %s: the request speaks %s: %w", r.Method, rt.Path, rt.Since, version, errdefs.ErrInvalidArgument)
	}
	w.omit = httpapi.Later(rt.Fields, version)
	ctx := httpapi.WithVersion(r.Context(), version)
	return rt.Path, rt.Handler(ctx, w, r.WithContext(ctx), vars)
}

// guard turns a panic into an error: one broken request is not the engine's end.
func (s *Server) guard(run func() error) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			s.o.Log.Error("a request handler panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error in the engine (%v): please report it, with the daemon's log: %w", p, errdefs.ErrInternal)
		}
	}()
	return run()
}

func (s *Server) fail(w *writer, r *http.Request, err error) {
	status := Status(err)
	level := slog.LevelDebug
	if status == http.StatusInternalServerError && r.Context().Err() == nil {
		level = slog.LevelError
	}
	s.o.Log.Log(r.Context(), level, "request failed", "method", r.Method, "path", r.URL.Path, "status", status, "error", err)
	if w.hijacked || w.status != 0 {
		return // the answer has begun: the client sees the stream end
	}
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	for _, k := range []string{"Content-Length", "Content-Encoding", "Content-Disposition", "Last-Modified"} {
		w.Header().Del(k)
	}
	_ = httpapi.WriteJSON(w, status, map[string]string{"message": Message(err)})
}

// negotiate splits "/v1.43/info" into its version and the rest. Without a
// version the newest is meant.
func negotiate(path string) (version, rest string, err error) {
	after, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return MaxVersion, path, nil
	}
	v, rest, ok := strings.Cut(after, "/")
	if !ok || v == "" || strings.Trim(v, "0123456789.") != "" {
		return MaxVersion, path, nil // "/volumes", "/version"
	}
	if len(v) > 16 {
		return "", "", fmt.Errorf("client version %.16s… is no API version: %w", v, errdefs.ErrInvalidArgument)
	}
	switch {
	case httpapi.VersionLess(v, MinVersion):
		return "", "", fmt.Errorf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version: %w", v, MinVersion, errdefs.ErrInvalidArgument)
	case httpapi.VersionLess(MaxVersion, v):
		return "", "", fmt.Errorf("client version %s is too new. Maximum supported API version is %s: %w", v, MaxVersion, errdefs.ErrInvalidArgument)
	}
	return v, "/" + rest, nil
}

// ping tells clients that the engine is there and what it speaks. The builder
// recommended is the classic one while the engine has no BuildKit.
func ping(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Builder-Version", "1")
	h.Set("Swarm", "inactive")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	_, err := w.Write([]byte("OK"))
	return err
}
