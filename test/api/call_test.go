package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/apicheck"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// engine starts gantryd with the image bb loaded.
func engine(t *testing.T, args ...string) *testkit.Engine {
	t.Helper()
	e := testkit.Start(t, testkit.Options{Args: args})
	e.Must(t, "load", "-q", "-i", archive(t, e, "bb:latest"))
	return e
}

func archive(t *testing.T, e *testkit.Engine, name string) string {
	t.Helper()
	file := filepath.Join(e.Dir, "bb.tar")
	if err := imagemaker.WriteBusybox(file, name); err != nil {
		t.Fatal(err)
	}
	return file
}

// api speaks one version to an engine and holds every answer against that version's description.
type api struct {
	t       *testing.T
	e       *testkit.Engine
	http    *http.Client
	version string // "1.44"; empty is the newest, without a prefix in the path
	spec    *apicheck.Spec
}

func newAPI(t *testing.T, e *testkit.Engine, version string) *api {
	t.Helper()
	a := &api{t: t, e: e, http: e.HTTP(), version: version}
	described := version
	switch version {
	case "":
		described = "1.56"
	case "1.24": // described in prose only
		described = "1.25"
	}
	a.spec = apicheck.Version(t, described)
	a.http.Timeout = 2 * time.Minute // a stream that should end and does not is a failure, not a hang
	t.Cleanup(a.http.CloseIdleConnections)
	return a
}

// req is one request. The path is the description's, its {variables} come from id.
type req struct {
	method, path string
	id           string
	query        string // "all=1&limit=3"
	body         any    // nil, io.Reader, []byte, string (as it is) or what is made JSON
	header       http.Header
	want         int
	loose        bool // the answer is no JSON or has no shape of its own
}

type answer struct {
	*http.Response
	body []byte
}

// into decodes the answer.
func (r answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(r.body, v); err != nil {
		t.Fatalf("%v in %.300q", err, r.body)
	}
}

// message is the text of an error.
func (r answer) message() string {
	var m struct{ Message string }
	_ = json.Unmarshal(r.body, &m)
	return m.Message
}

var seen struct {
	sync.Mutex
	operations map[string]map[int]bool // of the newest version: statuses that were met
}

func note(r req, status int) {
	seen.Lock()
	defer seen.Unlock()
	if seen.operations == nil {
		seen.operations = map[string]map[int]bool{}
	}
	op := r.method + " " + r.path
	if seen.operations[op] == nil {
		seen.operations[op] = map[int]bool{}
	}
	seen.operations[op][status] = true
}

// send makes the request and leaves the answer's body to the caller.
func (a *api) send(r req) (*http.Response, error) {
	path := r.path
	if r.id != "" {
		for _, v := range []string{"{id}", "{name}"} {
			path = strings.ReplaceAll(path, v, r.id)
		}
	}
	if a.version != "" {
		path = "/v" + a.version + path
	}
	var body io.Reader
	header := r.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	switch b := r.body.(type) {
	case nil:
	case io.Reader:
		body = b
	case []byte:
		body = bytes.NewReader(b)
	case string:
		body = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(raw)
		if header.Get("Content-Type") == "" {
			header.Set("Content-Type", "application/json")
		}
	}
	q, err := http.NewRequestWithContext(a.t.Context(), r.method, "http://engine"+path, body)
	if err != nil {
		return nil, err
	}
	q.URL.RawQuery, q.Header = r.query, header
	return a.http.Do(q)
}

// do makes the request, wants its status, and checks the answer against the description.
func (a *api) do(r req) answer {
	a.t.Helper()
	res, err := a.send(r)
	if err != nil {
		a.t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	name := fmt.Sprintf("v%s %s %s?%s", a.version, r.method, strings.ReplaceAll(r.path, "{id}", r.id), r.query)
	if res.StatusCode != r.want {
		a.t.Errorf("%s: status %d, want %d: %.500s", name, res.StatusCode, r.want, body)
		return answer{res, body}
	}
	note(r, res.StatusCode)
	if got := res.Header.Get("Api-Version"); got != "1.56" {
		a.t.Errorf("%s: Api-Version is %q", name, got)
	}
	if !strings.HasPrefix(res.Header.Get("Server"), "Gantry/") || res.Header.Get("Ostype") != "linux" || res.Header.Get("Docker-Experimental") != "false" {
		a.t.Errorf("%s: headers %v", name, res.Header)
	}
	a.check(name, r, res, body)
	return answer{res, body}
}

func (a *api) check(name string, r req, res *http.Response, body []byte) {
	a.t.Helper()
	if res.StatusCode >= 400 {
		if r.method == http.MethodHead {
			return
		}
		if ct := res.Header.Get("Content-Type"); ct != "application/json" {
			a.t.Errorf("%s: an error of type %q", name, ct)
		}
		var m map[string]any
		if err := json.Unmarshal(body, &m); err != nil || len(m) != 1 || m["message"] == "" || m["message"] == nil {
			a.t.Errorf("%s: the error is %.300q", name, body)
		}
		return
	}
	if r.loose || res.StatusCode == http.StatusNotModified {
		return
	}
	for _, err := range a.spec.Response(r.method, r.path, res.StatusCode, body) {
		if why := excused(a.version, r.method+" "+r.path, err.Error()); why == "" {
			a.t.Errorf("%s: %v", name, err)
		}
	}
}

// form joins query parameters.
func form(kv ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(kv); i += 2 {
		v.Add(kv[i], kv[i+1])
	}
	return v.Encode()
}

// now is the time in the form of "since" and "until".
func now(t *testing.T) string {
	t.Helper()
	n := time.Now()
	return fmt.Sprintf("%d.%09d", n.Unix(), n.Nanosecond())
}
