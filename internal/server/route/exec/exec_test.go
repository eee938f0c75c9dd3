package exec

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/containers"
)

// echo is a service whose exec writes back what it reads, framed.
type echo struct{ detached bool }

func (e *echo) ExecCreate(_ context.Context, ref string, req container.ExecCreateRequest) (string, error) {
	return ref + "-" + strings.Join(req.Cmd, "-"), nil
}

func (e *echo) ExecStart(_ context.Context, _ string, o containers.ExecStartOptions) error {
	if o.Detach {
		e.detached = true
		return nil
	}
	st, err := o.Open(true)
	if err != nil {
		return err
	}
	in, err := io.ReadAll(st.Stdin)
	if err != nil {
		return err
	}
	if _, err := st.Stdout.Write(in); err != nil {
		return err
	}
	_, err = st.Stderr.Write([]byte("!"))
	return err
}

func (e *echo) ExecInspect(context.Context, string) (container.ExecInspectResponse, error) {
	return container.ExecInspectResponse{OpenStdin: true}, nil
}

func (e *echo) ExecResize(context.Context, string, uint16, uint16) error { return nil }

func serve(t *testing.T, e *echo) *httptest.Server {
	routes := New(e).Routes()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, rt := range routes {
			want := strings.ReplaceAll(rt.Path, "{id}", "abc")
			if rt.Method == r.Method && want == r.URL.Path {
				ctx := httpapi.WithVersion(r.Context(), "1.56")
				if err := rt.Handler(ctx, w, r.WithContext(ctx), httpapi.Vars{"id": "abc"}); err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
				}
				return
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestAttachedStart(t *testing.T) {
	srv := serve(t, &echo{})
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"Detach":false}`
	// Input sent together with the request must not be lost in a buffer.
	_, err = io.WriteString(conn, "POST /exec/abc/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 16\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"+body+"hello")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Content-Type") != httpapi.MultiplexedStream {
		t.Errorf("status %d, type %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	want := "\x01\x00\x00\x00\x00\x00\x00\x05hello\x02\x00\x00\x00\x00\x00\x00\x01!"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDetachedStartAndCreate(t *testing.T) {
	e := &echo{}
	srv := serve(t, e)
	post := func(path, body string) *http.Response {
		t.Helper()
		resp, err := http.Post(srv.URL+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	if r := post("/exec/abc/start", `{"Detach":true}`); r.StatusCode != http.StatusOK || !e.detached {
		t.Errorf("detached start: %d", r.StatusCode)
	}
	r := post("/containers/abc/exec", `{"Cmd":["ls"]}`)
	if text, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusCreated || strings.TrimSpace(string(text)) != `{"Id":"abc-ls"}` {
		t.Errorf("create: %d %s", r.StatusCode, text)
	}
	if r := post("/exec/abc/resize?h=70000&w=1", ""); r.StatusCode == http.StatusOK {
		t.Error("a height of 70000 was accepted")
	}
	if r := post("/exec/abc/start", `{"ConsoleSize":[1,2]}`); r.StatusCode == http.StatusOK {
		t.Error("a console size without terminal was accepted")
	}
}
