package server

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/gantry-engine/gantry/internal/registryserver/metrics"
	"github.com/gantry-engine/gantry/internal/registryserver/protocol"
)

// answer notes what is answered. It passes on how a file is sent (io.ReaderFrom): the kernel does that by itself.
type answer struct {
	http.ResponseWriter
	status int
	bytes  int64
	user   string
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := io.Copy(a.ResponseWriter, r)
	a.bytes += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// SetUser notes who asks.
func (a *answer) SetUser(name string) { a.user = name }

// counted counts what is read of a body.
type counted struct {
	io.ReadCloser
	n int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.n += int64(n)
	return n, err
}

// observed counts requests and writes the access log. log may be nil.
func observed(next http.Handler, m *metrics.Metrics, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		m.Begin()
		a := &answer{ResponseWriter: w}
		in := &counted{ReadCloser: r.Body}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = in
		}
		route := routeName(r.URL.Path)
		defer func() {
			took := time.Since(begun)
			m.Request(route, r.Method, a.status, took, in.n, a.bytes)
			if log != nil {
				log.LogAttrs(r.Context(), slog.LevelInfo, "request", slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", a.status),
					slog.Int64("received", in.n), slog.Int64("sent", a.bytes), slog.Duration("took", took), slog.String("remote", r.RemoteAddr),
					slog.String("user", a.user), slog.String("agent", r.UserAgent()))
			}
		}()
		next.ServeHTTP(a, r)
	})
}

func routeName(path string) string {
	if route, _ := protocol.RouteOf(path); route != protocol.None {
		return string(route)
	}
	if path == "/token" {
		return "token"
	}
	return "page"
}
