package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const atJSON = "application/json"

// Bodies that cannot be meant: each a clear 400, and the engine goes on.
func TestBadBodies(t *testing.T) {
	e := engine(t)
	a := newAPI(t, e, "1.56")
	id := a.sleeper("victim")
	asJSON := http.Header{"Content-Type": {atJSON}}
	deep := strings.Repeat(`{"HostConfig":`, 20000) + "1" + strings.Repeat("}", 20000)
	for _, path := range []string{"/containers/create", "/containers/{id}/update", "/containers/{id}/exec", "/volumes/create", "/networks/create", "/commit"} {
		r := req{method: "POST", path: path, id: id, header: asJSON, want: 400}
		if path == "/commit" {
			r.query = "container=" + id
		}
		for what, c := range map[string]struct{ body, says string }{
			"cut short":        {`{"Image":"bb"`, "JSON"},
			"no JSON":          {`hello`, "invalid JSON"},
			"another type":     {`[1,2]`, "JSON"},
			"a wrong field":    {`{"Labels":"x","Cmd":7,"Name":{},"CpuShares":"many","Env":3}`, "JSON"},
			"more behind":      {`{}{"Image":"bb"}`, "unexpected content after JSON"},
			"garbage behind":   {`{} x`, "unexpected content after JSON"},
			"too deep":         {deep, "invalid JSON"},
			"bytes of nothing": {"\x00\x00", "invalid JSON"},
		} {
			if path == "/networks/create" && what == "too deep" {
				continue // deep where the type has no such field: skipped before it is looked at
			}
			r.body = c.body
			got := a.do(r)
			if !strings.Contains(got.message(), c.says) {
				t.Errorf("%s, %s: %q does not say %q", path, what, got.message(), c.says)
			}
		}
		r.body, r.header = `{}`, http.Header{"Content-Type": {"text/plain"}}
		if got := a.do(r); !strings.Contains(got.message(), "unsupported Content-Type header (text/plain): must be 'application/json'") {
			t.Errorf("%s as text: %q", path, got.message())
		}
	}
	for path, body := range map[string]string{
		"/containers/create":      `{"Image":"bb","Cmd":["x"],"HostConfig":{"Ulimits":[null]}}`,
		"/containers/{id}/update": `{"BlkioWeightDevice":[null]}`,
	} {
		if got := a.do(req{method: "POST", path: path, id: id, header: asJSON, body: body, want: 400}); !strings.Contains(got.message(), "[0] is null") {
			t.Errorf("%s with a null in a list: %q", path, got.message())
		}
	}
	for _, path := range []string{"/containers/create", "/containers/{id}/update", "/containers/{id}/exec"} {
		if got := a.do(req{method: "POST", path: path, id: id, header: asJSON, want: 400}); got.message() == "" {
			t.Errorf("%s without a body: %q", path, got.message())
		}
	}
	a.do(req{method: "GET", path: "/_ping", want: 200, loose: true})
}

// A body larger than any request needs is cut off, not read to its end.
func TestHugeBody(t *testing.T) {
	e := engine(t)
	a := newAPI(t, e, "1.56")
	for _, chunked := range []bool{false, true} {
		var body io.Reader = strings.NewReader(`{"Image":"` + strings.Repeat("x", 40<<20) + `"}`)
		if chunked {
			body = struct{ io.Reader }{body}
		}
		res, err := a.send(req{method: "POST", path: "/containers/create", body: body, header: http.Header{"Content-Type": {atJSON}}})
		if err != nil { // the engine stopped reading while we wrote
			continue
		}
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != 400 || !strings.Contains(string(text), "larger than") {
			t.Errorf("chunked %v: %d %.300s", chunked, res.StatusCode, text)
		}
	}
	a.do(req{method: "GET", path: "/_ping", want: 200, loose: true})
}

func TestBadQueries(t *testing.T) {
	e := engine(t)
	a := newAPI(t, e, "1.56")
	id := a.sleeper("queried")
	filter := func(f string) string { return form("filters", f) }
	for _, r := range []req{
		{method: "GET", path: "/containers/json", query: "limit=x", want: 400},
		{method: "GET", path: "/containers/json", query: "limit=99999999999999999999", want: 400},
		{method: "GET", path: "/containers/json", query: "limit=-1", want: 200}, // no limit, as everywhere
		{method: "GET", path: "/containers/json", query: "unknown=1&all=1", want: 200},
		{method: "GET", path: "/containers/json", query: filter("x"), want: 400},
		{method: "GET", path: "/containers/json", query: filter(`{"status":["nonsense"]}`), want: 400},
		{method: "GET", path: "/containers/json", query: filter(`{"exited":["x"]}`), want: 400},
		{method: "GET", path: "/containers/json", query: filter(`{"before":["nobody"]}`), want: 404},
		{method: "GET", path: "/containers/json", query: filter(`{"status":"running"}`), want: 400},
		{method: "GET", path: "/containers/json", query: filter(`{"status":{"running":true}}`), want: 200},
		{method: "POST", path: "/containers/create", query: "name=", body: map[string]any{}, want: 400},
		{method: "POST", path: "/containers/create", query: "name=a%2Fb", body: map[string]any{"Image": "bb"}, want: 400},
		{method: "POST", path: "/containers/create", query: "platform=nonsense%2F%2F", body: map[string]any{"Image": "bb"}, want: 400},
		{method: "POST", path: "/containers/create", body: map[string]any{"Image": "none"}, want: 404},
		{method: "POST", path: "/containers/create", body: map[string]any{"Image": "bb", "StopSignal": "-3"}, want: 400},
		{method: "POST", path: "/containers/create", body: map[string]any{"Image": "UPPER"}, want: 400},
		{method: "POST", path: "/containers/create", body: map[string]any{"Image": "bb", "HostConfig": map[string]any{"Memory": 1}}, want: 400},
		{method: "POST", path: "/containers/create", body: map[string]any{"Image": "bb", "HostConfig": map[string]any{"Memory": -5}}, want: 400},
		{method: "POST", path: "/containers/{id}/stop", query: "t=x", want: 400},
		{method: "POST", path: "/containers/{id}/restart", query: "t=1.5", want: 400},
		{method: "POST", path: "/containers/{id}/stop", query: "signal=NONSENSE", want: 400},
		{method: "POST", path: "/containers/{id}/kill", query: "signal=NONSENSE", want: 400},
		{method: "POST", path: "/containers/{id}/kill", query: "signal=-1", want: 400},
		{method: "POST", path: "/containers/{id}/kill", query: "signal=65", want: 400},
		{method: "POST", path: "/containers/{id}/stop", query: "signal=-1", want: 400},
		{method: "POST", path: "/containers/{id}/resize", query: "h=x&w=1", want: 400},
		{method: "POST", path: "/containers/{id}/resize", query: "h=-1&w=1", want: 400},
		{method: "POST", path: "/containers/{id}/resize", query: "h=1&w=70000", want: 400},
		{method: "POST", path: "/containers/{id}/resize", want: 400},
		{method: "POST", path: "/containers/{id}/rename", want: 400},
		{method: "POST", path: "/containers/{id}/rename", query: "name=..", want: 400},
		{method: "POST", path: "/containers/{id}/rename", query: "name=queried", want: 400},
		{method: "POST", path: "/containers/{id}/wait", query: "condition=never", want: 400},
		{method: "GET", path: "/containers/{id}/logs", query: "stdout=1&since=x", want: 400},
		{method: "GET", path: "/containers/{id}/logs", query: "stdout=1&until=1.x", want: 400},
		{method: "GET", path: "/containers/{id}/archive", want: 400},
		{method: "PUT", path: "/containers/{id}/archive", query: "path=", want: 400},
		{method: "PUT", path: "/containers/{id}/archive", query: "path=/nothing", body: smallTar(t), want: 404},
		{method: "PUT", path: "/containers/{id}/archive", query: "path=/tmp", body: "no archive at all", want: 400},
		{method: "GET", path: "/containers/{id}/top", query: "ps_args=--nonsense", want: 500}, // all that the API describes, besides 404
		{method: "POST", path: "/containers/{id}/attach", query: "stream=1&stdout=1&detachKeys=nonsense", want: 400},
		{method: "POST", path: "/containers/{id}/exec", body: map[string]any{"Cmd": []string{"x"}, "DetachKeys": "nonsense"}, want: 400},
		{method: "POST", path: "/containers/{id}/update", body: map[string]any{"RestartPolicy": map[string]any{"Name": "sometimes"}}, want: 400},
		{method: "POST", path: "/containers/prune", query: filter(`{"nonsense":["1"]}`), want: 400},
		{method: "GET", path: "/events", query: "since=nonsense", want: 400},
		{method: "GET", path: "/events", query: "since=20&until=10", want: 400},
		{method: "GET", path: "/events", query: filter(`{"nonsense":["1"]}`), want: 400},
		{method: "GET", path: "/system/df", query: "type=nonsense", want: 400},
		{method: "POST", path: "/volumes/create", body: map[string]any{"Name": "../x"}, want: 400},
		{method: "POST", path: "/volumes/create", body: map[string]any{"Driver": "nonsense"}, want: 404},
		{method: "POST", path: "/volumes/prune", query: filter(`{"nonsense":["1"]}`), want: 400},
		{method: "POST", path: "/networks/prune", query: filter(`{"nonsense":["1"]}`), want: 400},
		{method: "GET", path: "/networks", query: filter(`{"nonsense":["1"]}`), want: 400},
		{method: "POST", path: "/images/load", body: "no archive", want: 400},
		{method: "POST", path: "/images/create", query: "fromSrc=-", body: "no archive", want: 400},
		{method: "GET", path: "/images/{name}/json", query: "platform=x", want: 400},
		{method: "GET", path: "/images/get", query: "names=none", want: 404},
		{method: "POST", path: "/images/prune", query: filter(`{"dangling":["perhaps"]}`), want: 400},
		{method: "POST", path: "/commit", body: map[string]any{}, want: 400},
		{method: "POST", path: "/commit", query: "container=" + id + "&repo=UPPER", body: map[string]any{}, want: 400},
	} {
		r.id = id
		a.do(r)
	}
}

func TestUnknownPagesAndMethods(t *testing.T) {
	e := engine(t)
	for _, c := range []string{"GET /nothing", "POST /info", "DELETE /version", "PATCH /containers/x", "OPTIONS /info", "GET /", "GET //", "GET /v1.56/", "GET /v1.56", "GET /containers", "GET /containers/", "GET /images//json", "GET /containers/x/y/z"} {
		method, path, _ := strings.Cut(c, " ")
		q, err := http.NewRequest(method, "http://engine"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := e.HTTP().Do(q)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != 404 || string(body) != `{"message":"page not found"}`+"\n" {
			t.Errorf("%s: %d %s", c, res.StatusCode, body)
		}
	}
}

// Requests that are not even HTTP, or that never end, cost a connection and nothing else.
func TestBrokenHTTP(t *testing.T) {
	e := engine(t)
	for _, text := range []string{
		"nonsense\r\n\r\n", "GET /info HTTP/9.9\r\n\r\n", "GET /info\r\n\r\n", "GET /info HTTP/1.1\r\n\r\n", // no Host
		"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: -1\r\n\r\n",
		"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nzz\r\n",
		"GET /info HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-Long: "+strings.Repeat("y", 1000)+"\r\n", 2000) + "\r\n",
		"GET /containers/%zz/json HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		c, err := net.Dial("unix", e.Socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(c, text)
		line, _ := bufio.NewReader(c).ReadString('\n')
		var status int
		_, _ = fmt.Sscanf(line, "HTTP/1.1 %d", &status)
		if line != "" && (status < 400 || status > 505 || status == 500) {
			t.Errorf("%.60q: %q", text, line)
		}
		_ = c.Close()
	}
	newAPI(t, e, "").do(req{method: "GET", path: "/_ping", want: 200, loose: true})
}
