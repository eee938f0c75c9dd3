package volumes

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/volume"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/server"
	service "github.com/gantry-engine/gantry/internal/service/volumes"
	"github.com/gantry-engine/gantry/internal/testkit/apicheck"
)

var _ Service = (*service.Service)(nil)

// fake knows one volume and keeps what it was asked.
type fake struct {
	args    filters.Args
	created volume.CreateRequest
	forced  bool
}

var vol = volume.Volume{Name: "vol", Driver: "local", Scope: "local", Mountpoint: "/v/vol/_data", CreatedAt: "2026-01-02T03:04:05Z"}

func (f *fake) List(_ context.Context, a filters.Args) (volume.ListResponse, error) {
	f.args = a
	return volume.ListResponse{Volumes: []volume.Volume{vol}, Warnings: []string{}}, a.Check("name")
}

func (f *fake) Inspect(_ context.Context, name string) (volume.Volume, error) {
	if name != "vol" {
		return volume.Volume{}, errdefs.ErrNotFound.WithMessage("get " + name + ": no such volume")
	}
	return vol, nil
}

func (f *fake) Create(_ context.Context, r volume.CreateRequest) (volume.Volume, error) {
	f.created = r
	return vol, nil
}

func (f *fake) Remove(_ context.Context, name string, force bool) error {
	f.forced = force
	_, err := f.Inspect(context.Background(), name)
	return err
}

func (f *fake) Prune(_ context.Context, a filters.Args) (volume.PruneReport, error) {
	f.args = a
	return volume.PruneReport{VolumesDeleted: []string{"vol"}, SpaceReclaimed: 7}, nil
}

func start(t *testing.T, f *fake) *httptest.Server {
	t.Helper()
	s := server.New(server.Options{})
	if err := s.Ready(New(f)); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return h
}

func TestRoutes(t *testing.T) {
	f := &fake{}
	h := start(t, f)
	for _, c := range []struct {
		method, path, body string
		status             int
		described          string // path in the API's description
	}{
		{"GET", "/v1.56/volumes?filters=" + `{"name":{"v":true}}`, "", 200, "/volumes"},
		{"GET", "/v1.56/volumes?filters=" + `{"nosuch":{"v":true}}`, "", 400, ""},
		{"GET", "/v1.56/volumes?filters=nonsense", "", 400, ""},
		{"GET", "/v1.56/volumes/vol", "", 200, "/volumes/{name}"},
		{"GET", "/volumes/vol", "", 200, "/volumes/{name}"},
		{"GET", "/v1.56/volumes/nosuch", "", 404, ""},
		{"POST", "/v1.56/volumes/create", `{"Name":"n","DriverOpts":{"a":"b"},"Labels":{"c":"d"}}`, 201, "/volumes/create"},
		{"POST", "/v1.56/volumes/create", ``, 201, "/volumes/create"},
		{"POST", "/v1.56/volumes/create", `{`, 400, ""},
		{"POST", "/v1.56/volumes/prune", "", 200, "/volumes/prune"},
		{"POST", "/v1.24/volumes/prune", "", 400, ""},
		{"DELETE", "/v1.56/volumes/vol?force=1", "", 204, ""},
		{"DELETE", "/v1.56/volumes/nosuch", "", 404, ""},
		{"PUT", "/v1.56/volumes/vol", "{}", 503, ""},
	} {
		req, err := http.NewRequest(c.method, h.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != c.status {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, res.StatusCode, b, c.status)
		}
		if c.described != "" {
			apicheck.Response(t, c.method, c.described, c.status, b)
		} else if c.status >= 400 && !strings.Contains(string(b), `"message"`) {
			t.Errorf("%s %s: an error without its text: %s", c.method, c.path, b)
		}
		if c.body != "" && c.status == 201 {
			if d := cmp.Diff(volume.CreateRequest{Name: "n", DriverOpts: map[string]string{"a": "b"}, Labels: map[string]string{"c": "d"}}, f.created); d != "" {
				t.Errorf("the request (-want +got):\n%s", d)
			}
		}
		if c.method == "DELETE" && f.forced != (c.status == 204) {
			t.Errorf("%s: force %v", c.path, f.forced)
		}
	}
}

// A prune by an old client takes named volumes along.
func TestPruneByVersion(t *testing.T) {
	f := &fake{}
	h := start(t, f)
	for version, all := range map[string]string{"1.41": "true", "1.42": ""} {
		res, err := http.Post(h.URL+"/v"+version+"/volumes/prune", "application/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if got := strings.Join(f.args["all"], ""); got != all {
			t.Errorf("%s: all=%q, want %q", version, got, all)
		}
	}
}
