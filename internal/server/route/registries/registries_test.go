package registries

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/testkit/apicheck"
)

// fake notes what it is asked.
type fake struct {
	asked string
	auth  registry.AuthConfig
}

func (f *fake) Login(_ context.Context, auth registry.AuthConfig) (registry.AuthResponse, error) {
	f.auth = auth
	if auth.Password == "wrong" {
		return registry.AuthResponse{}, classed.Invalid("no")
	}
	return registry.AuthResponse{Status: "Login Succeeded"}, nil
}

func (f *fake) Describe(_ context.Context, ref string, auth registry.AuthConfig) (registry.DistributionInspect, error) {
	f.asked, f.auth = ref, auth
	return registry.DistributionInspect{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: "sha256:" + "0000000000000000000000000000000000000000000000000000000000000000", Size: 1},
		Platforms:  []ocispec.Platform{{OS: "linux", Architecture: "amd64"}},
	}, nil
}

func (f *fake) Search(_ context.Context, term string, limit int, a filters.Args, auth registry.AuthConfig) ([]registry.SearchResult, error) {
	b, _ := json.Marshal(a)
	f.asked, f.auth = strings.Join([]string{term, string(rune('0' + limit)), string(b)}, " "), auth
	return []registry.SearchResult{{Name: "x", StarCount: 3, IsOfficial: true}}, nil
}

// call asks an endpoint, with credentials in the header.
func call(t *testing.T, f *fake, method, path, body string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(registry.AuthHeader, "eyJ1c2VybmFtZSI6ImFubiJ9")
	for _, r := range New(f).Routes() {
		prefix, suffix, _ := strings.Cut(r.Path, "{name*}")
		if r.Method != method || !strings.HasPrefix(req.URL.Path, prefix) || !strings.HasSuffix(req.URL.Path, suffix) {
			continue
		}
		w := httptest.NewRecorder()
		vars := httpapi.Vars{"name": strings.TrimSuffix(strings.TrimPrefix(req.URL.Path, prefix), suffix)}
		return w, r.Handler(t.Context(), w, req, vars)
	}
	t.Fatalf("no route for %s %s", method, path)
	return nil, nil
}

func TestAsks(t *testing.T) {
	for _, c := range []struct{ method, path, body, asked, endpoint string }{
		{"GET", "/distribution/host:5000/a/b:1/json", "", "host:5000/a/b:1", "/distribution/{name}/json"},
		{"GET", `/images/search?term=x/y&limit=3&filters={"stars":["2"]}`, "", `x/y 3 {"stars":["2"]}`, "/images/search"},
		{"POST", "/auth", `{"username":"ann","password":"p","serveraddress":"h"}`, "", "/auth"},
	} {
		f := &fake{}
		w, err := call(t, f, c.method, c.path, c.body)
		if err != nil || w.Code != http.StatusOK {
			t.Errorf("%s: %d, %v", c.path, w.Code, err)
			continue
		}
		apicheck.Response(t, c.method, c.endpoint, w.Code, w.Body.Bytes())
		if f.asked != c.asked || f.auth.Username != "ann" {
			t.Errorf("%s: asked %q as %q", c.path, f.asked, f.auth.Username)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/images/search?term=x&limit=many", ""},
		{"GET", "/images/search?term=x&filters=[", ""},
		{"POST", "/auth", "{"},
		{"POST", "/auth", `{"password":"wrong"}`},
	} {
		if _, err := call(t, &fake{}, c.method, c.path, c.body); err == nil {
			t.Errorf("%s %s %s was taken", c.method, c.path, c.body)
		}
	}
}
