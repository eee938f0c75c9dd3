package containers

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
)

var _ Service = (*containers.Service)(nil)

type fake struct {
	Service
	created containers.CreateRequest
	logOpts containers.LogOptions
}

func (f *fake) Create(_ context.Context, r containers.CreateRequest) (container.CreateResponse, error) {
	f.created = r
	return container.CreateResponse{ID: "abc"}, nil
}

func (f *fake) ReadLogs(_ context.Context, _ string, o containers.LogOptions) (containers.LogStream, error) {
	f.logOpts = o
	return containers.LogStream{Batches: func(yield func([]containers.LogEntry, error) bool) {
		yield([]containers.LogEntry{{Stream: spec.Stdout, Line: []byte("out\n")}, {Stream: spec.Stderr, Line: []byte("err\n")}}, nil)
	}}, nil
}

func (f *fake) StatPath(context.Context, string, string) (containers.PathStat, error) {
	return containers.PathStat{Name: "x", Size: 3}, nil
}

func do(t *testing.T, f *fake, version, method, path, target, body string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	for _, r := range New(f).Routes() {
		if r.Method == method && r.Path == path {
			req := httptest.NewRequest(method, target, strings.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			ctx := httpapi.WithVersion(t.Context(), version)
			return w, r.Handler(ctx, w, req, httpapi.Vars{"id": "c"})
		}
	}
	t.Fatalf("no route %s %s", method, path)
	return nil, nil
}

func TestCreate(t *testing.T) {
	f := &fake{}
	w, err := do(t, f, "1.56", "POST", "/containers/create", "/containers/create?name=n&platform=linux/arm64", `{"Image":"i","HostConfig":{"Memory":9000000},"Nosuch":1}`)
	if err != nil || w.Code != http.StatusCreated || strings.TrimSpace(w.Body.String()) != `{"Id":"abc","Warnings":[]}` {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
	if f.created.Name != "n" || f.created.Config.Image != "i" || f.created.HostConfig.Memory != 9000000 || f.created.Platform.Architecture != "arm64" {
		t.Errorf("%+v", f.created)
	}
	for _, bad := range []string{`{`, `{}`, ``, `{"Image":"i"} x`} {
		if _, err := do(t, f, "1.56", "POST", "/containers/create", "/containers/create", bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestLogFrames(t *testing.T) {
	f := &fake{}
	for version, media := range map[string]string{"1.41": httpapi.RawStream, "1.42": httpapi.MultiplexedStream} {
		w, err := do(t, f, version, "GET", "/containers/{id}/logs", "/x?stdout=1&stderr=1&tail=5&since=1.5", "")
		if err != nil || w.Header().Get("Content-Type") != media {
			t.Fatal(w.Header(), err)
		}
		if b, _ := io.ReadAll(w.Body); string(b) != "\x01\x00\x00\x00\x00\x00\x00\x04out\n\x02\x00\x00\x00\x00\x00\x00\x04err\n" {
			t.Errorf("%q", b)
		}
	}
	if f.logOpts.Tail != 5 || f.logOpts.Since.UnixNano() != 1500000000 {
		t.Errorf("%+v", f.logOpts)
	}
}

func TestArchiveHead(t *testing.T) {
	w, err := do(t, &fake{}, "1.56", "HEAD", "/containers/{id}/archive", "/x?path=/x", "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := base64.StdEncoding.DecodeString(w.Header().Get("X-Docker-Container-Path-Stat"))
	if err != nil || !strings.HasPrefix(string(b), `{"name":"x","size":3,`) {
		t.Errorf("%s %v", b, err)
	}
	if _, err := do(t, &fake{}, "1.56", "HEAD", "/containers/{id}/archive", "/x", ""); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}
