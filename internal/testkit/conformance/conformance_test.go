package conformance

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/testkit/registry"
)

// The registry of our tests keeps what the specification says; what it may leave out it leaves out.
func TestTheRegistryOfOurTests(t *testing.T) {
	for _, r := range Run(t.Context(), Target{URL: registry.New(t).URL}, Cases()...) {
		if r.Verdict == Fail || r.Verdict == Absent && r.Case.Level != May {
			t.Errorf("%s: %s", r.Case.ID, r.Why)
		}
	}
}

func TestCasesAreTold(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		if seen[c.ID] || c.ID == "" || c.Category == "" || c.Level == "" || c.Section == "" || len(c.Says) < 10 || c.run == nil {
			t.Errorf("%q is there twice, or not whole", c.ID)
		}
		seen[c.ID] = true
	}
}

// wrong is a registry that does one thing wrong: it changes what comes in, what goes out, or both.
type wrong struct {
	what string
	in   func(*http.Request)
	out  func(*http.Request, *reply)
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

func status(from, to int, methods ...string) func(*http.Request, *reply) {
	return func(req *http.Request, a *reply) {
		if a.status == from && (len(methods) == 0 || slices.Contains(methods, req.Method)) {
			a.status = to
		}
	}
}

func without(field string) func(*http.Request, *reply) {
	return func(_ *http.Request, a *reply) { a.header.Del(field) }
}

// text replaces something in the bodies of a path.
func text(path, old, new string) func(*http.Request, *reply) {
	return func(req *http.Request, a *reply) {
		if strings.Contains(req.URL.Path, path) {
			a.body = bytes.ReplaceAll(a.body, []byte(old), []byte(new))
		}
	}
}

func header(field, value string) func(*http.Request, *reply) {
	return func(_ *http.Request, a *reply) {
		if a.header.Get(field) != "" {
			a.header.Set(field, value)
		}
	}
}

// ignores takes a field out of what comes in.
func ignores(field string) func(*http.Request) { return func(r *http.Request) { r.Header.Del(field) } }

// unasked takes a parameter out of what comes in.
func unasked(key string) func(*http.Request) {
	return func(r *http.Request) {
		q := r.URL.Query()
		q.Del(key)
		r.URL.RawQuery = q.Encode()
	}
}

// deaf answers requests itself.
func deaf(method, path string, with int) func(*http.Request, *reply) {
	return func(req *http.Request, a *reply) {
		if req.Method == method && strings.Contains(req.URL.Path, path) {
			a.status = with
		}
	}
}

// listed changes the tags or referrers of a list.
func listed[T any](key string, change func([]T) []T) func(*http.Request, *reply) {
	return func(_ *http.Request, a *reply) {
		var body map[string]json.RawMessage
		var list []T
		if a.status == http.StatusOK && json.Unmarshal(a.body, &body) == nil && body[key] != nil && json.Unmarshal(body[key], &list) == nil {
			body[key] = encode(change(list))
			a.body = encode(body)
		}
	}
}

func backwards(tags []string) []string { slices.Reverse(tags); return tags }

var wrongs = []wrong{
	{what: "no support", out: deaf("GET", "/v2/", 404)},
	{what: "bodies with a byte too many", out: func(_ *http.Request, a *reply) {
		if a.status == 200 {
			a.body = append(a.body, ' ')
		}
	}},
	{what: "no digest", out: without("Docker-Content-Digest")},
	{what: "another digest", out: header("Docker-Content-Digest", "sha256:"+strings.Repeat("a", 64))},
	{what: "another type", out: header("Content-Type", "text/plain")},
	{what: "a type with parameters", out: func(_ *http.Request, a *reply) {
		a.header.Set("Content-Type", a.header.Get("Content-Type")+"; charset=utf-8")
	}},
	{what: "no size", out: func(req *http.Request, a *reply) {
		if req.Method == "HEAD" {
			a.header.Set("Content-Length", "1")
		}
	}},
	{what: "everything is there", out: status(404, 200, "GET", "HEAD")},
	{what: "everything goes", out: func(_ *http.Request, a *reply) {
		if a.status == 400 || a.status == 416 || a.status == 413 || a.status == 404 {
			a.status = 201
		}
	}},
	{what: "errors without codes", out: text("", `"code"`, `"cord"`)},
	{what: "errors with other codes", out: func(_ *http.Request, a *reply) {
		if a.status >= 400 && a.body != nil {
			a.body = []byte(`{"errors": [{"code": "OTHER"}]}`)
		}
	}},
	{what: "all for a part", in: ignores("Range")},
	{what: "chunks anywhere", in: ignores("Content-Range")},
	{what: "no location", out: without("Location")},
	{what: "one location", out: header("Location", "/v2/x/blobs/uploads/x")},
	{what: "no range", out: without("Range")},
	{what: "another range", out: header("Range", "0-3")},
	{what: "a status that is none", out: status(204, 200)},
	{what: "nothing is made", out: status(201, 200)},
	{what: "deletion that is none", in: func(r *http.Request) {
		if r.Method == "DELETE" {
			r.Method = "GET"
		}
	}, out: func(req *http.Request, a *reply) {
		if req.Method == "DELETE" && a.status == 200 {
			*a = reply{status: 202, header: http.Header{}}
		}
	}},
	{what: "deletion answered with 200", out: status(202, 200, "DELETE")},
	{what: "unknown things deleted", out: status(404, 202, "DELETE")},
	{what: "no mount, no upload", out: func(req *http.Request, a *reply) {
		if req.URL.Query().Has("mount") {
			a.status = 404
		}
	}},
	{what: "mounts of nothing", out: func(req *http.Request, a *reply) {
		if req.URL.Query().Has("mount") && a.status == 202 {
			a.status = 201
		}
	}},
	{what: "single uploads refused", out: func(req *http.Request, a *reply) {
		if req.Method == "POST" && req.URL.Query().Has("digest") {
			a.status = 500
		}
	}},
	{what: "no HEAD", out: deaf("HEAD", "", 405)},
	{what: "chunks refused", out: deaf("PATCH", "/uploads/", 500)},
	{what: "single uploads dropped", out: func(req *http.Request, a *reply) {
		if req.Method == "POST" && req.URL.Query().Has("digest") {
			a.status = 201
		}
	}},
	{what: "no sha512", out: func(req *http.Request, a *reply) {
		if a.status == 400 && strings.Contains(req.URL.String(), "sha512") {
			a.status = 500
		}
	}},
	{what: "manifests of certain forms refused", out: func(req *http.Request, a *reply) {
		if a.status == 201 && strings.Contains(req.URL.Path, "/manifests/") {
			a.status = 400
		}
	}},
	{what: "no subject", out: without("OCI-Subject")},
	{what: "no cancelling", out: deaf("DELETE", "/uploads/", 500)},
	{what: "names refused", out: func(req *http.Request, a *reply) {
		if strings.Contains(req.URL.Path, "/a/") || strings.Count(req.URL.Path, "0123456789") > 3 {
			a.status = 400
		}
	}},
	{what: "tags backwards", out: listed("tags", backwards)},
	{what: "tags of another repository", out: text("/tags/list", `"name"`, `"n"`)},
	{what: "null for no tags", out: text("/tags/list", `"tags":[]`, `"tags":null`)},
	{what: "no n", in: unasked("n")},
	{what: "no last", in: unasked("last")},
	{what: "a link of another form", out: header("Link", "next")},
	{what: "the same page again", out: func(req *http.Request, a *reply) {
		if a.header.Get("Link") != "" {
			a.header.Set("Link", "<"+req.URL.String()+`>; rel="next"`)
		}
	}},
	{what: "referrers twice", out: listed("manifests", func(l []ocispec.Descriptor) []ocispec.Descriptor { return append(l, l...) })},
	{what: "other referrers for none", out: listed("manifests", func(l []ocispec.Descriptor) []ocispec.Descriptor {
		return append(l, ocispec.Descriptor{Digest: "sha256:x"})
	})},
	{what: "referrers without a type", out: listed("manifests", func(l []ocispec.Descriptor) []ocispec.Descriptor {
		for i := range l {
			l[i].ArtifactType, l[i].Annotations = "", nil
		}
		return l
	})},
	{what: "a type for each referrer", out: text("/referrers/", `"mediaType":"application/vnd.oci.image.index.v1+json","digest"`, `"artifactType":"x","mediaType":"application/vnd.oci.image.index.v1+json","digest"`)},
	{what: "no filter", in: unasked("artifactType")},
	{what: "a filter that is not told", out: without("OCI-Filters-Applied")},
	{what: "referrers of any digest", out: func(req *http.Request, a *reply) {
		if strings.Contains(req.URL.Path, "/referrers/") && a.status == 400 {
			a.status = 200
		}
	}},
}

func (w wrong) ServeHTTP(to http.ResponseWriter, req *http.Request, right http.Handler) {
	asked := req.Clone(req.Context())
	if w.in != nil {
		w.in(asked)
	}
	rec := httptest.NewRecorder()
	right.ServeHTTP(rec, asked)
	a := reply{rec.Code, rec.Header(), rec.Body.Bytes()}
	if w.out != nil {
		w.out(req, &a)
	}
	for k, v := range a.header {
		to.Header()[k] = v
	}
	if req.Method != http.MethodHead {
		to.Header().Del("Content-Length")
	}
	to.WriteHeader(a.status)
	_, _ = to.Write(a.body)
}

// preparation is what most cases do before they come to what they are about.
var preparation = Case{ID: "preparation", run: func(p *probe) { p.tagged("one", p.image()) }}

// about are the cases that are about what preparation does.
var about = []string{"pull-support", "push-post", "push-put", "push-single", "push-concurrent", "push-manifest", "push-subject", "push-tag"}

// Each case fails at a registry that does all but one thing right. Where preparing fails, only cases that are about it count.
func TestEachCaseCanFail(t *testing.T) {
	open := Cases()
	for _, w := range wrongs {
		right := registry.New(t)
		server := httptest.NewServer(http.HandlerFunc(func(to http.ResponseWriter, req *http.Request) { w.ServeHTTP(to, req, right) }))
		target := Target{URL: server.URL, Prefix: "c"}
		try := open
		if Run(t.Context(), target, preparation)[0].Verdict == Fail {
			try = slices.DeleteFunc(slices.Clone(open), func(c Case) bool {
				return !slices.ContainsFunc(about, func(id string) bool { return strings.HasPrefix(c.ID, id) })
			})
		}
		for _, r := range Run(t.Context(), target, try...) {
			if r.Verdict == Fail {
				open = slices.DeleteFunc(slices.Clone(open), func(c Case) bool { return c.ID == r.Case.ID })
			}
		}
		server.Close()
	}
	for _, c := range open {
		t.Errorf("%s never fails", c.ID)
	}
}
