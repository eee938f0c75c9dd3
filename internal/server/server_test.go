package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/testkit/apicheck"
)

type routes []httpapi.Route

func (r routes) Routes() []httpapi.Route { return r }

func handler(f func(w http.ResponseWriter, r *http.Request, v httpapi.Vars) error) httpapi.Handler {
	return func(_ context.Context, w http.ResponseWriter, r *http.Request, v httpapi.Vars) error {
		return f(w, r, v)
	}
}

// name answers with the route's own name and its variables.
func name(s string) httpapi.Handler {
	return handler(func(w http.ResponseWriter, _ *http.Request, v httpapi.Vars) error {
		_, err := fmt.Fprint(w, s, " ", v["id"], v["name"])
		return err
	})
}

func quiet(log io.Writer) Options {
	return Options{Product: "Gantry/test", Log: slog.New(slog.NewTextHandler(log, nil))}
}

func start(t *testing.T, rs ...httpapi.Route) (*Server, string) {
	t.Helper()
	s := New(quiet(io.Discard))
	if err := s.Ready(routes(rs)); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return s, h.URL
}

func get(t *testing.T, method, url string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

func TestMatching(t *testing.T) {
	g := http.MethodGet
	_, url := start(t,
		httpapi.Route{Method: g, Path: "/images/{name*}/json", Handler: name("inspect")},
		httpapi.Route{Method: g, Path: "/images/{name*}", Handler: name("bare")},
		httpapi.Route{Method: g, Path: "/images/json", Handler: name("list")},
		httpapi.Route{Method: g, Path: "/images/{name*}/get", Handler: name("save")},
		httpapi.Route{Method: g, Path: "/images/get", Handler: name("saveall")},
		httpapi.Route{Method: g, Path: "/containers/json", Handler: name("ps")},
		httpapi.Route{Method: g, Path: "/containers/{id}/json", Handler: name("cinspect")},
		httpapi.Route{Method: g, Path: "/containers/{id}/attach/ws", Handler: name("ws")},
		httpapi.Route{Method: http.MethodDelete, Path: "/containers/{id}", Handler: name("rm")},
		httpapi.Route{Method: g, Path: "/volumes", Handler: name("volumes")},
		httpapi.Route{Method: g, Path: "/version", Handler: name("version")},
		httpapi.Route{Method: g, Path: "/new", Handler: name("new"), Since: "1.50"},
	)
	for _, c := range []struct{ method, path, want string }{
		{g, "/images/json", "list "},
		{g, "/v1.43/images/json", "list "},
		{g, "/images/a/b/c:1/json", "inspect a/b/c:1"},
		{g, "/images/get", "saveall "},
		{g, "/images/a/get", "save a"},
		{g, "/images/a/b", "bare a/b"},
		{g, "/images/json/json", "inspect json"},
		{g, "/images/a%2Fb/json", "inspect a/b"},
		{g, "/containers/json", "ps "},
		{g, "/containers/x/json", "cinspect x"},
		{g, "/containers//x/json", "cinspect /x"},
		{g, "/v1.24/containers/%2Fx/json", "cinspect /x"},
		{g, "/containers/x/attach/ws", "ws x"},
		{http.MethodDelete, "/containers//x", "rm /x"},
		{g, "/volumes", "volumes "},
		{g, "/version", "version "},
		{g, "/v1.50/new", "new "},
		{g, "/v1.49/new", "requires 1.50"},
		{g, "/containers/a/b/json", ""},
		{g, "/containers///json", ""},
		{g, "/containers/x/json/", ""},
		{http.MethodPost, "/containers/json", ""},
		{g, "/", ""},
		{g, "//", ""},
		{g, "/nothing", ""},
		{g, "/v1.x/version", ""},
	} {
		status, body, _ := get(t, c.method, url+c.path)
		if c.want == "" {
			if status != 404 || body != `{"message":"page not found"}`+"\n" {
				t.Errorf("%s %s: %d %q", c.method, c.path, status, body)
			}
			continue
		}
		if since, ok := strings.CutPrefix(c.want, "requires "); ok {
			if status != 400 || !strings.Contains(body, c.method+" /new requires minimum API version "+since) {
				t.Errorf("%s %s: %d %q", c.method, c.path, status, body)
			}
			continue
		}
		if status != 200 || body != c.want {
			t.Errorf("%s %s: %d %q, want %q", c.method, c.path, status, body, c.want)
		}
	}
}

func TestBadRoutesAreRefused(t *testing.T) {
	ok := name("x")
	for _, rs := range []routes{
		{{Method: "GET", Path: "x", Handler: ok}},
		{{Method: "GET", Path: "/x/{a*}/{b*}", Handler: ok}},
		{{Method: "GET", Path: "/x/{a", Handler: ok}},
		{{Method: "GET", Path: "/x"}},
		{{Method: "GET", Path: "/{a}", Handler: ok}},
		{{Method: "GET", Path: "/x/{a}", Handler: ok}, {Method: "GET", Path: "/x/{b}", Handler: ok}},
	} {
		if err := New(quiet(io.Discard)).Ready(rs); err == nil {
			t.Errorf("%+v was accepted", rs)
		}
	}
}

func TestVersions(t *testing.T) {
	_, url := start(t, httpapi.Route{Method: "GET", Path: "/x", Handler: func(ctx context.Context, w http.ResponseWriter, _ *http.Request, _ httpapi.Vars) error {
		_, err := io.WriteString(w, httpapi.Version(ctx))
		return err
	}})
	for path, want := range map[string]string{
		"/x": "1.56", "/v1.24/x": "1.24", "/v1.56/x": "1.56", "/v1.30/x": "1.30",
		"/v1.23/x":                "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
		"/v1.9/_ping":             "client version 1.9 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
		"/v1.57/x":                "client version 1.57 is too new. Maximum supported API version is 1.56",
		"/v2/x":                   "client version 2 is too new. Maximum supported API version is 1.56",
		"/v99999999999999999.1/x": "is no API version",
	} {
		status, body, h := get(t, "GET", url+path)
		if len(want) > 4 {
			var m struct{ Message string }
			if err := json.Unmarshal([]byte(body), &m); err != nil || status != 400 || !strings.Contains(m.Message, want) {
				t.Errorf("%s: %d %s", path, status, body)
			}
		} else if status != 200 || body != want {
			t.Errorf("%s: %d %s, want %s", path, status, body, want)
		}
		if h.Get("Api-Version") != "1.56" || h.Get("Ostype") != "linux" || h.Get("Docker-Experimental") != "false" || h.Get("Server") != "Gantry/test (linux)" {
			t.Errorf("%s: headers %v", path, h)
		}
	}
}

func TestPingAnswersBeforeReady(t *testing.T) {
	s := New(quiet(io.Discard))
	h := httptest.NewServer(s)
	defer h.Close()
	for _, path := range []string{"/_ping", "/v1.40/_ping"} {
		status, body, hd := get(t, "GET", h.URL+path)
		if status != 200 || body != "OK" || hd.Get("Swarm") != "inactive" || hd.Get("Builder-Version") == "" || hd.Get("Cache-Control") != "no-cache, no-store, must-revalidate" {
			t.Errorf("%s: %d %q %v", path, status, body, hd)
		}
		if status, body, _ := get(t, "HEAD", h.URL+path); status != 200 || body != "" {
			t.Errorf("HEAD %s: %d %q", path, status, body)
		}
	}
	answer := make(chan string, 1)
	go func() {
		res, err := http.Get(h.URL + "/x")
		if err != nil {
			answer <- err.Error()
			return
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		answer <- string(b)
	}()
	if err := s.Ready(routes{{Method: "GET", Path: "/x", Handler: name("late")}}); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; got != "late " {
		t.Errorf("a request that waited: %q", got)
	}
}

func TestErrors(t *testing.T) {
	type own struct{ error }
	fail := map[string]error{
		"a": fmt.Errorf("No such container: x: %w", errdefs.ErrNotFound),
		"b": fmt.Errorf("bad: %w: %w", errors.New("worse"), errdefs.ErrInvalidArgument),
		"c": fmt.Errorf("outer: %w", fmt.Errorf("inner: %w", errdefs.ErrConflict)),
		"d": own{errors.New("plain")},
		"e": fmt.Errorf("already: %w", errdefs.ErrNotModified),
		"f": fmt.Errorf("later: %w", errdefs.ErrNotImplemented),
		"g": fmt.Errorf("not <now> & here: %w", errdefs.ErrUnavailable),
	}
	_, url := start(t, httpapi.Route{Method: "GET", Path: "/fail/{id}", Handler: handler(func(w http.ResponseWriter, _ *http.Request, v httpapi.Vars) error {
		w.Header().Set("Content-Type", "application/x-tar")
		w.Header().Set("Content-Length", "9999")
		return fail[v["id"]]
	})})
	for id, want := range map[string]string{
		"a": "404 No such container: x", "b": "400 bad: worse", "c": "409 outer: inner", "d": "500 plain", "f": "501 later", "g": "503 not <now> & here",
	} {
		status, body, h := get(t, "GET", url+"/fail/"+id)
		var m struct{ Message string }
		if err := json.Unmarshal([]byte(body), &m); err != nil || fmt.Sprint(status, " ", m.Message) != want || h.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %q (%v), want %s", id, status, body, h.Get("Content-Type"), want)
		}
		apicheck.Definition(t, "ErrorResponse", []byte(body))
	}
	if status, body, _ := get(t, "GET", url+"/fail/e"); status != 304 || body != "" {
		t.Errorf("not modified: %d %q", status, body)
	}
}

// Going from class to status and back gives the same status, for every row.
func TestTableGoesBothWays(t *testing.T) {
	for _, c := range classes {
		if got := Status(Class(c.status)); got != c.status {
			t.Errorf("status %d became %v and then %d", c.status, Class(c.status), got)
		}
		if got := Status(fmt.Errorf("wrapped: %w", c.class)); got != c.status {
			t.Errorf("%v: %d, want %d", c.class, got, c.status)
		}
	}
	if Class(200) != nil || Class(204) != nil || !errdefs.IsInvalidArgument(Class(418)) || !errdefs.IsUnknown(Class(599)) {
		t.Error("statuses outside of the table")
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	var log bytes.Buffer
	s := New(quiet(&log))
	if err := s.Ready(routes{{Method: "GET", Path: "/panic", Handler: handler(func(http.ResponseWriter, *http.Request, httpapi.Vars) error { panic("oh no") })}}); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/panic", nil))
	if w.Code != 500 || !strings.Contains(w.Body.String(), "oh no") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "TestPanicIsAnAnswer") {
		t.Errorf("no stack in the log: %s", &log)
	}
}

func TestHijackPassesThrough(t *testing.T) {
	_, url := start(t, httpapi.Route{Method: "POST", Path: "/attach", Handler: handler(func(w http.ResponseWriter, _ *http.Request, _ httpapi.Vars) error {
		if _, ok := w.(http.Hijacker); !ok {
			return errors.New("no hijacker")
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return err
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		line, err := rw.ReadString('\n')
		if err != nil {
			return err
		}
		fmt.Fprint(conn, "echo "+line)
		return errors.New("an error after hijacking must not write into the stream")
	})})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nhello\n")
	all, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 101 ") || !strings.HasSuffix(string(all), "\r\n\r\necho hello\n") {
		t.Errorf("%q, %v", all, err)
	}
}

func TestStreamsFlushAndEndWithTheDaemon(t *testing.T) {
	s := New(quiet(io.Discard))
	ended := make(chan error, 1)
	if err := s.Ready(routes{{Method: "GET", Path: "/stream", Handler: func(ctx context.Context, w http.ResponseWriter, _ *http.Request, _ httpapi.Vars) error {
		fmt.Fprintln(w, "first")
		w.(http.Flusher).Flush()
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil
	}}}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	res, err := http.Get("http://" + l.Addr().String() + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	if err != nil || line != "first\n" {
		t.Fatalf("%q, %v", line, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, errShutdown) {
		t.Errorf("the stream ended with %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestMetrics(t *testing.T) {
	m := NewMetrics("1.2", "abc", func() map[string]int { return map[string]int{"running": 3} })
	o := quiet(io.Discard)
	o.Observer = m
	s := New(o)
	if err := s.Ready(routes{{Method: "GET", Path: "/c/{id}", Handler: name("x")}}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/c/1", "/c/2", "/nothing"} {
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", p, nil))
	}
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`gantry_api_requests_total{code="200",method="GET",route="/c/{id}"} 2`, `gantry_api_requests_total{code="404",method="GET",route="unknown"} 1`,
		`engine_daemon_container_states_containers{state="running"} 3`, `engine_daemon_container_states_containers{state="paused"} 0`, `version="1.2"`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s in\n%.3000s", want, w.Body)
		}
	}
}

func FuzzNegotiate(f *testing.F) {
	f.Add("/v1.43/info")
	f.Add("/v/")
	tab, err := newTable([]httpapi.Router{routes{
		{Method: "GET", Path: "/images/{name*}/json", Handler: name("")}, {Method: "GET", Path: "/containers/{id}/json", Handler: name("")},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, p string) {
		v, rest, err := negotiate(p)
		if err != nil {
			return
		}
		if httpapi.VersionLess(v, MinVersion) || httpapi.VersionLess(MaxVersion, v) {
			t.Errorf("%q gave version %q", p, v)
		}
		if r, vars := tab.find("GET", rest); r != nil && vars["id"]+vars["name"] == "" {
			t.Errorf("%q matched %s without a name", p, r.Path)
		}
	})
}
