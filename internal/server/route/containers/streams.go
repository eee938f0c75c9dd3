package containers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/gorilla/websocket"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/containers"
)

type streams struct{ svc Streamer }

func attachOptions(r *http.Request) containers.AttachOptions {
	return containers.AttachOptions{
		Stdin: httpapi.Bool(r, "stdin"), Stdout: httpapi.Bool(r, "stdout"), Stderr: httpapi.Bool(r, "stderr"),
		Stream: httpapi.Bool(r, "stream"), Logs: httpapi.Bool(r, "logs"), DetachKeys: r.FormValue("detachKeys"),
	}
}

func (s streams) attach(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	o := attachOptions(r)
	var conn *httpapi.Conn
	o.Open = func(mux bool) (st containers.Streams, err error) {
		if conn, err = httpapi.Hijack(w, r, mux); err != nil {
			return st, err
		}
		var out, errs io.Writer = conn, conn
		if mux {
			m := httpapi.NewMux(conn)
			out, errs = m.Stream(1), m.Stream(2)
		}
		st.Gone = conn.Left()
		if o.Stdin {
			st.Stdin = conn
		} else { // a client that has nothing to say closes its side and goes on reading
			conn.Drain()
		}
		if o.Stdout {
			st.Stdout = out
		}
		if o.Stderr {
			st.Stderr = errs
		}
		return st, nil
	}
	err := s.svc.Attach(ctx, vars["id"], o)
	if conn == nil {
		return err
	}
	conn.Finish() // the status is out: a failure just ends the stream
	return nil
}

// gone reads and drops what a websocket's client sends, until it has left: then the
// channel is closed.
func gone(r io.Reader) <-chan struct{} {
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = io.Copy(io.Discard, r)
	}()
	return left
}

// wsConn makes a websocket a stream of bytes.
type wsConn struct {
	ws   *websocket.Conn
	kind int // of the frames that are sent: websocket.BinaryMessage or TextMessage
	mu   sync.Mutex
	rest io.Reader
}

func (c *wsConn) Read(p []byte) (int, error) {
	for {
		if c.rest == nil {
			_, r, err := c.ws.NextReader()
			if err != nil {
				return 0, io.EOF
			}
			c.rest = r
		}
		n, err := c.rest.Read(p)
		if err == io.EOF {
			c.rest = nil
			if n == 0 {
				continue
			}
			err = nil
		}
		return n, err
	}
}

func (c *wsConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ws.WriteMessage(c.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// upgrader lets browsers of any origin in only where they have none: a page must not reach the engine.
var upgrader = websocket.Upgrader{ReadBufferSize: 32 << 10, WriteBufferSize: 32 << 10}

func (s streams) websocket(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	o := attachOptions(r)
	if older(ctx, "1.42") { // the streams could not be chosen
		o.Stdin, o.Stdout, o.Stderr = true, true, true
	}
	kind := websocket.BinaryMessage
	if older(ctx, "1.28") {
		kind = websocket.TextMessage
	}
	var conn *wsConn
	upgraded := false
	o.Open = func(bool) (st containers.Streams, err error) {
		upgraded = true // Upgrade answers itself when it fails
		ws, err := upgrader.Upgrade(w, r, w.Header().Clone())
		if err != nil {
			return st, err
		}
		conn = &wsConn{ws: ws, kind: kind}
		if o.Stdin {
			st.Stdin = conn
		} else { // somebody has to read, or its farewell and pings would go unnoticed
			st.Gone = gone(conn)
		}
		if o.Stdout {
			st.Stdout = conn
		}
		if o.Stderr {
			st.Stderr = conn
		}
		return st, nil
	}
	err := s.svc.Attach(ctx, vars["id"], o)
	if conn != nil {
		_ = conn.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
		_ = conn.ws.Close()
	}
	if upgraded {
		return nil
	}
	return err
}

func (s streams) wait(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	var cond container.WaitCondition
	if !older(ctx, "1.30") {
		cond = container.WaitCondition(r.FormValue("condition"))
	}
	ch, err := s.svc.Wait(ctx, vars["id"], cond)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush() // clients start the container once they see this
	if resp, ok := <-ch; ok {
		_ = json.NewEncoder(w).Encode(resp)
	}
	return nil
}

func (s streams) resize(ctx context.Context, w http.ResponseWriter, r *http.Request, vars httpapi.Vars) error {
	var side [2]uint16
	for i, name := range []string{"h", "w"} {
		n, err := strconv.ParseUint(r.FormValue(name), 10, 16)
		if err != nil {
			return fmt.Errorf("the query parameter %s=%q is not a terminal's size in characters: %w", name, r.FormValue(name), errdefs.ErrInvalidArgument)
		}
		side[i] = uint16(n)
	}
	if err := s.svc.Resize(ctx, vars["id"], side[0], side[1]); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
