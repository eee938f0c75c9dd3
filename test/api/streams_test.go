package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// dial opens a connection to an engine that times out rather than hangs.
func dial(t *testing.T, e *testkit.Engine) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", e.Socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// hijack posts and reads the answer's head; the connection is the stream from there on.
func hijack(t *testing.T, e *testkit.Engine, path, body string, upgrade bool) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	c := dial(t, e)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", path, len(body))
	if upgrade {
		head += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
	}
	if _, err := io.WriteString(c, head+"\r\n"+body); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, &http.Request{Method: "POST"})
	if err != nil {
		t.Fatal(err)
	}
	return c, r, res
}

func TestHijackedAttach(t *testing.T) {
	e := engine(t)
	a := newAPI(t, e, "1.56")
	for _, c := range []struct {
		version string
		upgrade bool
		status  int
		media   string
	}{
		{"1.24", true, 101, "application/vnd.docker.raw-stream"}, {"1.41", true, 101, "application/vnd.docker.raw-stream"},
		{"1.42", true, 101, "application/vnd.docker.multiplexed-stream"}, {"1.56", true, 101, "application/vnd.docker.multiplexed-stream"},
		{"1.24", false, 200, "application/vnd.docker.raw-stream"}, {"1.56", false, 200, "application/vnd.docker.raw-stream"},
	} {
		id := a.create("", map[string]any{"Image": "bb", "Cmd": []string{"sh", "-c", "echo err >&2; cat"}, "OpenStdin": true, "StdinOnce": true})
		conn, r, res := hijack(t, e, "/v"+c.version+"/containers/"+id+"/attach?stream=1&stdin=1&stdout=1&stderr=1", "", c.upgrade)
		if res.StatusCode != c.status || res.Header.Get("Content-Type") != c.media || res.Header.Get("Api-Version") != "1.56" {
			t.Errorf("v%s upgrade %v: %s, %v", c.version, c.upgrade, res.Status, res.Header)
		}
		if c.upgrade && (res.Header.Get("Upgrade") != "tcp" || res.Header.Get("Connection") != "Upgrade") {
			t.Errorf("v%s: %v", c.version, res.Header)
		}
		a.start(id)
		_, _ = io.WriteString(conn, "echo me\n")
		_ = conn.(*net.UnixConn).CloseWrite()
		if out := demux(t, r); out.stdout != "echo me\n" || out.stderr != "err\n" {
			t.Errorf("v%s upgrade %v: %+v", c.version, c.upgrade, out)
		}
		a.remove(id)
	}
}

// With a terminal the stream is raw, and the detach keys end it while the container goes on.
func TestAttachToATerminal(t *testing.T) {
	e := engine(t)
	a := newAPI(t, e, "1.56")
	id := a.create("", map[string]any{"Image": "bb", "Cmd": []string{"cat"}, "OpenStdin": true, "Tty": true})
	conn, r, res := hijack(t, e, "/containers/"+id+"/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-x,q", "", true)
	if res.Header.Get("Content-Type") != "application/vnd.docker.raw-stream" {
		t.Errorf("%v", res.Header)
	}
	a.start(id)
	_, _ = io.WriteString(conn, "hello\n")
	got := make([]byte, 14) // the terminal's echo, then cat's
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "hello\r\nhello\r\n" {
		t.Errorf("%q, %v", got, err)
	}
	_, _ = io.WriteString(conn, "\x18q")
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("after the detach keys: %q, %v", rest, err)
	}
	var st struct{ State struct{ Running bool } }
	a.do(req{method: "GET", path: "/containers/{id}/json", id: id, want: 200}).into(t, &st)
	if !st.State.Running {
		t.Error("detaching ended the container")
	}
}

func ws(t *testing.T, e *testkit.Engine, path string, header http.Header) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	d := websocket.Dialer{NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", e.Socket)
	}}
	c, res, err := d.Dial("ws://engine"+path, header)
	if err == nil {
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, res, err
}

func TestWebsocketAttach(t *testing.T) {
	e := engine(t)
	a := newAPI(t, e, "1.56")
	for _, c := range []struct {
		version, query string
		kind           int
		want           string
	}{
		{"1.24", "", websocket.TextMessage, "err\necho\n"}, {"1.41", "", websocket.BinaryMessage, "err\necho\n"}, // all streams, whatever is asked for
		{"1.42", "&stdin=1&stdout=1", websocket.BinaryMessage, "echo\n"}, {"1.56", "&stdin=1&stdout=1&stderr=1", websocket.BinaryMessage, "err\necho\n"},
	} {
		id := a.create("", map[string]any{"Image": "bb", "Cmd": []string{"sh", "-c", "echo err >&2; read x; echo $x"}, "OpenStdin": true, "StdinOnce": true})
		conn, res, err := ws(t, e, "/v"+c.version+"/containers/"+id+"/attach/ws?stream=1"+c.query, nil)
		if err != nil {
			t.Fatalf("v%s: %v", c.version, err)
		}
		if res.Header.Get("Api-Version") != "1.56" {
			t.Errorf("v%s: %v", c.version, res.Header)
		}
		a.start(id)
		if err := conn.WriteMessage(c.kind, []byte("echo\n")); err != nil {
			t.Fatal(err)
		}
		var got string
		for {
			kind, data, err := conn.ReadMessage()
			if err != nil {
				if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
					t.Errorf("v%s: the stream ends with %v", c.version, err)
				}
				break
			}
			if kind != c.kind {
				t.Errorf("v%s: a frame of kind %d", c.version, kind)
			}
			got += string(data)
		}
		if lines(got) != lines(c.want) { // of two streams neither is first
			t.Errorf("v%s: %q, want %q", c.version, got, c.want)
		}
		a.remove(id)
	}
	id := a.sleeper("ws")
	if _, res, err := ws(t, e, "/containers/"+id+"/attach/ws?stream=1", http.Header{"Origin": {"http://evil.example"}}); err == nil || res.StatusCode != 403 {
		t.Errorf("a page of another origin: %v", err)
	}
	res, err := a.send(req{method: "GET", path: "/containers/{id}/attach/ws", id: id})
	if err != nil || res.StatusCode != 400 {
		t.Errorf("without an upgrade: %v, %v", res, err)
	}
	_ = res.Body.Close()
}

// exitOf reads the answer of a wait.
func exitOf(t *testing.T, res *http.Response) int {
	t.Helper()
	defer res.Body.Close()
	var r struct{ StatusCode int }
	if err := json.NewDecoder(res.Body).Decode(&r); err != nil {
		t.Errorf("wait: %v", err)
	}
	return r.StatusCode
}

func TestWaitInItsThreeConditions(t *testing.T) {
	e := engine(t)
	a := newAPI(t, e, "1.56")
	wait := func(id, condition string) *http.Response {
		t.Helper()
		res, err := a.send(req{method: "POST", path: "/containers/{id}/wait", id: id, query: "condition=" + condition})
		if err != nil || res.StatusCode != 200 { // the head is there at once
			t.Fatalf("%s: %v %v", condition, res, err)
		}
		return res
	}
	id := a.create("waited", map[string]any{"Image": "bb", "Cmd": []string{"sh", "-c", "exit 5"}})
	if code := exitOf(t, wait(id, "not-running")); code != 0 { // it is not running: at once
		t.Errorf("created: %d", code)
	}
	next, removed, plain := wait(id, "next-exit"), wait(id, "removed"), wait(id, "")
	if code := exitOf(t, plain); code != 0 {
		t.Errorf("without a condition: %d", code)
	}
	a.start(id)
	if code := exitOf(t, next); code != 5 {
		t.Errorf("next-exit: %d", code)
	}
	if code := exitOf(t, wait(id, "not-running")); code != 5 {
		t.Errorf("not-running after the end: %d", code)
	}
	next = wait(id, "next-exit") // of a run that has not begun
	done := make(chan int, 1)
	go func() { done <- exitOf(t, next) }()
	select {
	case code := <-done:
		t.Errorf("next-exit answered %d for the run that was over", code)
	case <-time.After(300 * time.Millisecond):
	}
	a.start(id)
	if code := <-done; code != 5 {
		t.Errorf("next-exit of the second run: %d", code)
	}
	a.remove(id)
	if code := exitOf(t, removed); code != 5 {
		t.Errorf("removed: %d", code)
	}
}

// load is what the engine holds at the moment.
type held struct{ NGoroutines, NFd, NEventsListener int }

func (a *api) held() (h held) {
	a.t.Helper()
	a.http.CloseIdleConnections()
	a.do(req{method: "GET", path: "/info", want: 200}).into(a.t, &h)
	return h
}

// Clients that leave in the midst of a stream leave nothing behind in the engine.
func TestStreamsThatAreCutLeaveNothing(t *testing.T) {
	e := engine(t, "-D")
	a := newAPI(t, e, "1.56")
	id := a.create("talker", map[string]any{"Image": "bb", "Cmd": []string{"sh", "-c", "while :; do echo line; sleep 0.05; done"}, "OpenStdin": true})
	a.start(id)
	quiet := a.sleeper("quiet")
	logless := a.create("never", map[string]any{"Image": "bb"})
	streams := []struct {
		name   string
		method string
		path   string
		body   bool // the answer's first bytes are waited for
	}{
		{"logs", "GET", "/containers/" + id + "/logs?follow=1&stdout=1&stderr=1", true},
		{"logs of a silent one", "GET", "/containers/" + quiet + "/logs?follow=1&stdout=1", false},
		{"stats", "GET", "/containers/" + id + "/stats?stream=1", true},
		{"stats of a stopped one", "GET", "/containers/" + logless + "/stats?stream=1", true},
		{"events", "GET", "/events", false},
		{"events until", "GET", "/events?until=9000000000", false},
		{"wait", "POST", "/containers/" + id + "/wait?condition=not-running", false},
		{"wait for the next exit", "POST", "/containers/" + id + "/wait?condition=next-exit", false},
		{"wait for the removal", "POST", "/containers/" + id + "/wait?condition=removed", false},
		{"attach", "POST", "/containers/" + id + "/attach?stream=1&stdout=1&stderr=1", true},
		{"attach with input", "POST", "/containers/" + id + "/attach?stream=1&stdin=1&stdout=1", true},
		{"attach to a silent one", "POST", "/containers/" + quiet + "/attach?stream=1&stdout=1", false},
		{"exec", "exec", "", false},
		{"exec with input", "exec", "stdin", false},
		{"export", "GET", "/containers/" + id + "/export", true},
		{"archive", "GET", "/containers/" + id + "/archive?path=/", true},
		{"save", "GET", "/images/bb/get", true},
	}
	cut := func(method, path string, body bool) {
		if method == "exec" { // an exec can be started once
			var x struct{ ID string }
			a.do(req{method: "POST", path: "/containers/{id}/exec", id: quiet, body: map[string]any{"Cmd": []string{"sleep", "1000"}, "AttachStdout": true, "AttachStdin": path == "stdin"}, want: 201}).into(t, &x)
			conn, _, _ := hijack(t, e, "/exec/"+x.ID+"/start", "{}", true)
			_ = conn.Close()
			return
		}
		cutShort(t, e, method, path, body)
	}
	for _, s := range streams { // once each before anything is counted: what is made on first use is no leak
		cut(s.method, s.path, s.body)
	}
	before := settle(a, held{})
	for _, s := range streams {
		for range 10 {
			cut(s.method, s.path, s.body)
		}
		if after := settle(a, before); after.NGoroutines > before.NGoroutines+3 || after.NFd > before.NFd+3 || after.NEventsListener > before.NEventsListener {
			t.Errorf("%s: before %+v, after %+v", s.name, before, after)
			before = after
		}
	}
	for range 10 {
		conn, _, err := ws(t, e, "/containers/"+id+"/attach/ws?stream=1&stdin=1&stdout=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.NetConn().Close()
	}
	if after := settle(a, before); after.NGoroutines > before.NGoroutines+3 || after.NFd > before.NFd+3 || after.NEventsListener > before.NEventsListener {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// cutShort begins a stream and closes the connection in its midst.
func cutShort(t *testing.T, e *testkit.Engine, method, path string, body bool) {
	t.Helper()
	c := dial(t, e)
	head := method + " " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
	if strings.Contains(path, "/attach?") {
		head += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
	}
	if _, err := io.WriteString(c, head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil || res.StatusCode > 299 {
		t.Fatalf("%s %s: %v %v", method, path, res, err)
	}
	if body {
		from := io.Reader(res.Body)
		if res.StatusCode == 101 {
			from = r
		}
		if _, err := io.ReadFull(from, make([]byte, 8)); err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
}

// settle waits until what the engine holds no longer falls, or is back at what it was.
func settle(a *api, until held) held {
	a.t.Helper()
	best := a.held()
	for range 120 {
		if until.NGoroutines > 0 && best.NGoroutines <= until.NGoroutines+3 && best.NFd <= until.NFd+3 && best.NEventsListener <= until.NEventsListener {
			return best
		}
		time.Sleep(100 * time.Millisecond)
		now := a.held()
		if until.NGoroutines == 0 && now.NGoroutines >= best.NGoroutines && now.NFd >= best.NFd {
			return best
		}
		best = now
	}
	return best
}

// lines gives the lines of a text in order of the alphabet.
func lines(text string) string {
	all := strings.SplitAfter(text, "\n")
	slices.Sort(all)
	return strings.Join(all, "")
}
