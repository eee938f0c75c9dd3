package server

import (
	"bufio"
	"net"
	"net/http"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
)

// writer notes how an answer began, and lets handlers take the connection over
// (attach, exec: "Connection: Upgrade", "Upgrade: tcp") and flush streams.
type writer struct {
	http.ResponseWriter
	status   int
	hijacked bool
	omit     []httpapi.Field
}

// Omits implements httpapi.Omitter.
func (w *writer) Omits() []httpapi.Field { return w.omit }

func (w *writer) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (w *writer) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Hijack implements http.Hijacker.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, b, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.hijacked = w.hijacked || err == nil
	return c, b, err
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) code() int {
	switch {
	case w.hijacked:
		return http.StatusSwitchingProtocols
	case w.status == 0:
		return http.StatusOK
	}
	return w.status
}
