package containers

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/gorilla/websocket"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/server"
	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/testkit/apicheck"
)

// echo is a container that answers in upper case on its output and says "bye" on its errors.
type echo struct {
	Service
	tty  bool
	opts containers.AttachOptions
	left chan struct{} // closed when a session saw its client leave

	exit    chan container.WaitResponse
	samples int
	archive io.ReadCloser
}

func (e *echo) Attach(ctx context.Context, ref string, o containers.AttachOptions) error {
	if ref != "c" {
		return errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	}
	e.opts = o
	st, err := o.Open(!e.tty)
	if err != nil {
		return err
	}
	if !o.Stdin {
		select {
		case <-st.Gone:
			close(e.left)
		case <-ctx.Done():
		}
		return nil
	}
	in, err := io.ReadAll(io.LimitReader(st.Stdin, 5))
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(st.Stdout, strings.ToUpper(string(in)))
	if st.Stderr != nil {
		_, err = fmt.Fprint(st.Stderr, "bye")
	}
	return err
}

func (e *echo) Wait(_ context.Context, ref string, cond container.WaitCondition) (<-chan container.WaitResponse, error) {
	if ref != "c" || cond == "nonsense" {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid condition")
	}
	return e.exit, nil
}

func (e *echo) Stats(_ context.Context, _ string, streaming, _ bool, emit func(container.StatsResponse) error) error {
	for range e.samples {
		if err := emit(container.StatsResponse{ID: "c"}); err != nil {
			return err
		}
	}
	return errors.New("the meter broke")
}

func (e *echo) Export(context.Context, string) (io.ReadCloser, error) { return e.archive, nil }

func serve(t *testing.T, svc Service) *httptest.Server {
	t.Helper()
	s := server.New(server.Options{})
	if err := s.Ready(New(svc)); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return h
}

func TestAttachHijack(t *testing.T) {
	for _, c := range []struct {
		name, version, query, upgrade string
		tty                           bool
		head, media, want             string
	}{
		{"frames", "1.56", "stdin=1&stdout=1&stderr=1&stream=1", "tcp", false, "HTTP/1.1 101 UPGRADED", "application/vnd.docker.multiplexed-stream",
			"\x01\x00\x00\x00\x00\x00\x00\x05HELLO\x02\x00\x00\x00\x00\x00\x00\x03bye"},
		{"frames for old clients", "1.41", "stdin=1&stdout=1&stream=1", "tcp", false, "HTTP/1.1 101 UPGRADED", "application/vnd.docker.raw-stream",
			"\x01\x00\x00\x00\x00\x00\x00\x05HELLO"},
		{"a terminal", "1.56", "stdin=1&stdout=1&stderr=1&stream=1&logs=1&detachKeys=ctrl-a", "tcp", true, "HTTP/1.1 101 UPGRADED", "application/vnd.docker.raw-stream", "HELLObye"},
		{"without upgrade", "1.56", "stdin=1&stdout=1&stream=1", "", true, "HTTP/1.1 200 OK", "application/vnd.docker.raw-stream", "HELLO"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := &echo{tty: c.tty}
			conn, err := net.Dial("tcp", serve(t, e).Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST /v%s/containers/c/attach?%s HTTP/1.1\r\nHost: d\r\n", c.version, c.query)
			if c.upgrade != "" {
				fmt.Fprintf(conn, "Connection: Upgrade\r\nUpgrade: %s\r\n", c.upgrade)
			}
			fmt.Fprint(conn, "\r\nhello") // the input comes along with the head
			r := bufio.NewReader(conn)
			head, err := r.ReadString('\n')
			if err != nil || strings.TrimSpace(head) != c.head {
				t.Fatalf("%q %v", head, err)
			}
			media := ""
			for line := "x"; line != ""; {
				line, err = r.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				line = strings.TrimSpace(line)
				if v, ok := strings.CutPrefix(line, "Content-Type: "); ok {
					media = v
				}
			}
			if rest, err := io.ReadAll(r); err != nil || string(rest) != c.want || media != c.media {
				t.Errorf("%s %q %v", media, rest, err)
			}
			if e.opts.Logs != strings.Contains(c.query, "logs") || !e.opts.Stream || e.opts.DetachKeys != map[bool]string{true: "ctrl-a"}[strings.Contains(c.query, "ctrl-a")] {
				t.Errorf("%+v", e.opts)
			}
		})
	}
	res, err := http.Post(serve(t, &echo{}).URL+"/v1.56/containers/nosuch/attach?stdout=1", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != 404 || !strings.Contains(string(b), "No such container: nosuch") {
		t.Errorf("%d %s", res.StatusCode, b)
	}
}

func TestAttachWebsocket(t *testing.T) {
	e := &echo{left: make(chan struct{})}
	at := "ws" + strings.TrimPrefix(serve(t, e).URL, "http") + "/v1.56/containers/"
	ws, _, err := websocket.DefaultDialer.Dial(at+"c/attach/ws?stdin=1&stdout=1&stream=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"he", "", "llo"} { // messages are no borders
		if err := ws.WriteMessage(websocket.TextMessage, []byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	kind, got, err := ws.ReadMessage()
	if err != nil || kind != websocket.BinaryMessage || string(got) != "HELLO" {
		t.Errorf("%d %q %v", kind, got, err)
	}
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("the end: %v", err)
	}
	_ = ws.Close()

	// A client without input that leaves is noticed, though nothing is written.
	ws, _, err = websocket.DefaultDialer.Dial(at+"c/attach/ws?stdout=1&stream=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = ws.Close()
	select {
	case <-e.left:
	case <-time.After(10 * time.Second):
		t.Error("the session goes on without its client")
	}

	for origin, status := range map[string]int{"http://evil.example": 403, "": 404} {
		h, ref := http.Header{}, "nosuch"
		if origin != "" {
			h.Set("Origin", origin)
			ref = "c"
		}
		_, res, err := websocket.DefaultDialer.Dial(at+ref+"/attach/ws?stdout=1&stream=1", h)
		if err == nil || res == nil || res.StatusCode != status {
			t.Errorf("origin %q: %v %v, want %d", origin, res, err, status)
		}
	}
}

func TestWait(t *testing.T) {
	e := &echo{exit: make(chan container.WaitResponse, 1)}
	h := serve(t, e)
	res, err := http.Post(h.URL+"/v1.56/containers/c/wait?condition=removed", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 { // the head comes before the exit: clients start the container on it
		t.Fatal(res.Status)
	}
	e.exit <- container.WaitResponse{StatusCode: 3}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	apicheck.Response(t, "POST", "/containers/{id}/wait", 200, b)
	var got container.WaitResponse
	if err := json.Unmarshal(b, &got); err != nil || got.StatusCode != 3 {
		t.Errorf("%s %v", b, err)
	}
	for version, status := range map[string]int{"1.56": 400, "1.29": 200} { // old clients know no conditions
		e.exit <- container.WaitResponse{}
		res, err := http.Post(h.URL+"/v"+version+"/containers/c/wait?condition=nonsense", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("%s: %s", version, res.Status)
		}
		select {
		case <-e.exit:
		default:
		}
	}
}

func TestStatsStream(t *testing.T) {
	e := &echo{samples: 2}
	h := serve(t, e)
	res, err := http.Get(h.URL + "/v1.56/containers/c/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	dec := json.NewDecoder(res.Body)
	n := 0
	for ; ; n++ {
		var s container.StatsResponse
		if err := dec.Decode(&s); err != nil {
			break
		}
	}
	if n != 2 || res.StatusCode != 200 {
		t.Errorf("%d samples, %s", n, res.Status)
	}
	e.samples = 0
	res, err = http.Get(h.URL + "/v1.56/containers/c/stats?stream=0")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 500 {
		t.Errorf("a failure before the first sample: %s", res.Status)
	}
}

// Half an archive must not look like a whole one.
func TestFailureInAnArchiveCutsTheConnection(t *testing.T) {
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write(make([]byte, 100<<10))
		_ = w.CloseWithError(errors.New("the disk broke"))
	}()
	h := serve(t, &echo{archive: r})
	res, err := http.Get(h.URL + "/v1.56/containers/c/export")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Errorf("%d bytes were taken for the whole archive", n)
	}

	r, w = io.Pipe()
	go func() { _ = w.CloseWithError(errors.New("the disk broke")) }()
	res, err = http.Get(serve(t, &echo{archive: r}).URL + "/v1.56/containers/c/export")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != 500 || !strings.Contains(string(b), "the disk broke") {
		t.Errorf("a failure before the first byte: %s %s", res.Status, b)
	}
}
