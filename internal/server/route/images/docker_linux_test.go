package images_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/driver/content"
	"github.com/gantry-engine/gantry/internal/driver/layers"
	"github.com/gantry-engine/gantry/internal/driver/registry"
	"github.com/gantry-engine/gantry/internal/server"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
	route "github.com/gantry-engine/gantry/internal/server/route/images"
	"github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/apicheck"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// ping is what clients negotiate with.
type ping struct{}

func (ping) Routes() []httpapi.Route {
	h := func(_ context.Context, w http.ResponseWriter, _ *http.Request, _ httpapi.Vars) error {
		w.Header().Set("Api-Version", "1.56")
		w.Header().Set("Ostype", "linux")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	return []httpapi.Route{{Method: http.MethodGet, Path: "/_ping", Handler: h}, {Method: http.MethodHead, Path: "/_ping", Handler: h}}
}

type engine struct {
	t    *testing.T
	sock string
}

func start(t *testing.T) engine {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	c, err := content.Open(ctx, filepath.Join(dir, "content"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := layers.Open(ctx, filepath.Join(dir, "layers"), layers.Options{})
	if err != nil {
		t.Fatal(err)
	}
	remote, err := registry.New(registry.Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := images.New(ctx, images.Deps{Content: c, Layers: l, Registry: remote})
	if err != nil {
		t.Fatal(err)
	}
	srv := server.New(server.Options{Product: "Gantry/test", Log: slog.New(slog.DiscardHandler)})
	if err := srv.Ready(ping{}, route.New(s)); err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(testkit.ShortTempDir(t), "s")
	lis, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: srv}
	go func() { _ = h.Serve(lis) }()
	t.Cleanup(func() {
		_ = h.Close()
		_ = l.Close()
		_ = c.Close()
	})
	return engine{t, sock}
}

func (e engine) docker(stdin io.Reader, args ...string) (string, error) {
	cmd := exec.Command("docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+e.sock, "DOCKER_CONFIG=/nonexistent")
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (e engine) must(stdin io.Reader, args ...string) string {
	e.t.Helper()
	out, err := e.docker(stdin, args...)
	if err != nil {
		e.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// get asks in a given API version.
func (e engine) get(version, path string) (int, map[string]any) {
	e.t.Helper()
	status, b := e.do(http.MethodGet, version, path)
	var m map[string]any
	if bytes.HasPrefix(b, []byte("[")) {
		b = fmt.Appendf(nil, `{"list":%s}`, b)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		e.t.Fatalf("%s: %v: %s", path, err, b)
	}
	return status, m
}

func TestTheOfficialClient(t *testing.T) {
	e := start(t)
	box, err := imagemaker.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	img := box.Named("app:1").Add(imagemaker.Layer{imagemaker.File("etc/motd", "hello")})
	var b bytes.Buffer
	made, err := imagemaker.Write(&b, imagemaker.Archive{Images: []imagemaker.Image{box, img}, Layers: "gzip"})
	if err != nil {
		t.Fatal(err)
	}
	if out := e.must(&b, "load"); out != "Loaded image: busybox:latest\nLoaded image: app:1" {
		t.Errorf("load: %q", out)
	}
	id := made[1].Manifest.Digest
	if out := e.must(nil, "images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", "app"); out != "app:1 "+id.String() {
		t.Errorf("images: %q", out)
	}
	if out := e.must(nil, "images", "-q"); len(strings.Fields(out)) != 2 {
		t.Errorf("images -q: %q", out)
	}
	if out := e.must(nil, "image", "inspect", "-f", "{{.Id}} {{.Os}} {{len .RootFS.Layers}} {{.Config.Cmd}}", id.Encoded()[:12]); out != id.String()+" linux 2 [sh]" {
		t.Errorf("inspect: %q", out)
	}
	if out := e.must(nil, "history", "-q", "--no-trunc", "app:1"); out != id.String()+"\n<missing>" {
		t.Errorf("history: %q", out)
	}
	e.must(nil, "tag", "app:1", "reg.example/team/app:2")
	file := filepath.Join(t.TempDir(), "a.tar")
	e.must(nil, "save", "-o", file, "reg.example/team/app:2", "busybox")
	if out := e.must(nil, "rmi", "reg.example/team/app:2"); out != "Untagged: reg.example/team/app:2" {
		t.Errorf("rmi of a name: %q", out)
	}
	if out := e.must(nil, "rmi", "app:1"); out != "Untagged: app:1\nDeleted: "+id.String() {
		t.Errorf("rmi: %q", out)
	}
	if out := e.must(nil, "load", "-q", "-i", file); out != "Loaded image: reg.example/team/app:2\nLoaded image: busybox:latest" {
		t.Errorf("load of what was saved: %q", out)
	}
	layer, err := imagemaker.Layer{imagemaker.File("a", "b")}.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if out := e.must(bytes.NewReader(layer), "import", "--change", "CMD a b", "-", "imported:x"); !strings.HasPrefix(out, "sha256:") {
		t.Errorf("import: %q", out)
	}
	if out := e.must(nil, "image", "prune", "-af"); !strings.Contains(out, "deleted: "+id.String()) || !strings.Contains(out, "Total reclaimed space") {
		t.Errorf("prune: %q", out)
	}
	for args, want := range map[string]string{
		"image inspect nosuch":   "No such image: nosuch:latest",
		"rmi nosuch":             "No such image: nosuch:latest",
		"tag nosuch x":           "No such image: nosuch:latest",
		"pull 127.0.0.1:1/x":     "connection refused",
		"push busybox":           "An image does not exist locally with the tag: busybox",
		"save nosuch -o " + file: "No such image",
		"load -i /etc/hostname":  "archive",
	} {
		out, err := e.docker(nil, strings.Fields(args)...)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("docker %s: %v %q, want %q", args, err, out, want)
		}
	}
}

// Answers have the shape that the API's description gives them.
func TestAnswersAgreeWithTheDescription(t *testing.T) {
	e := start(t)
	img := imagemaker.Image{Names: []string{"a:1"}, Layers: []imagemaker.Layer{{imagemaker.File("a", "b")}}}
	var b bytes.Buffer
	if _, err := imagemaker.Write(&b, imagemaker.Archive{Images: []imagemaker.Image{img}}); err != nil {
		t.Fatal(err)
	}
	e.must(&b, "load")
	for _, c := range []struct{ method, path, call string }{
		{"GET", "/images/json", "/images/json?manifests=1&shared-size=1"}, {"GET", "/images/{name}/json", "/images/a:1/json?manifests=1"},
		{"GET", "/images/{name}/history", "/images/a:1/history"}, {"GET", "/images/{name}/attestations", "/images/a:1/attestations"},
		{"POST", "/images/{name}/tag", "/images/a:1/tag?repo=b"}, {"DELETE", "/images/{name}", "/images/b"}, {"POST", "/images/prune", "/images/prune"},
		{"POST", "/build/prune", "/build/prune"}, {"GET", "/images/{name}/json", "/images/nosuch/json"},
	} {
		status, body := e.do(c.method, "1.56", c.call)
		apicheck.Response(t, c.method, c.path, status, body)
	}
}

func (e engine) do(method, version, path string) (int, []byte) {
	e.t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", e.sock)
	}}}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(e.t.Context(), method, "http://d/v"+version+path, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return res.StatusCode, b
}

func TestAnswersByVersion(t *testing.T) {
	e := start(t)
	small := imagemaker.Image{Names: []string{"a:1"}, Layers: []imagemaker.Layer{{imagemaker.File("a", "b")}}}
	nameless := imagemaker.Image{Layers: []imagemaker.Layer{{imagemaker.File("c", "d")}}}
	var b bytes.Buffer
	if _, err := imagemaker.Write(&b, imagemaker.Archive{Images: []imagemaker.Image{small, nameless}}); err != nil {
		t.Fatal(err)
	}
	e.must(&b, "load")
	for _, c := range []struct {
		version, field string
		want           bool
	}{
		{"1.43", "VirtualSize", true}, {"1.44", "VirtualSize", false}, {"1.44", "ContainerConfig", true}, {"1.45", "ContainerConfig", false},
		{"1.47", "Descriptor", false}, {"1.48", "Descriptor", true}, {"1.51", "GraphDriver", true}, {"1.56", "GraphDriver", false}, {"1.56", "Parent", false},
	} {
		_, m := e.get(c.version, "/images/a:1/json")
		if _, ok := m[c.field]; ok != c.want {
			t.Errorf("inspect in %s has %s: %v", c.version, c.field, ok)
		}
	}
	for version, want := range map[string]string{"1.42": "<none>:<none>", "1.43": ""} {
		_, m := e.get(version, `/images/json?filters={"dangling":["true"]}`)
		list := m["list"].([]any)
		tags := list[0].(map[string]any)["RepoTags"].([]any)
		if got := strings.Trim(fmt.Sprint(tags), "[]"); len(list) != 1 || got != want {
			t.Errorf("names in %s: %q", version, got)
		}
	}
	for path, want := range map[string]int{
		"/images/nosuch/json": 404, `/images/json?filters={"x":["y"]}`: 400, "/images/a:1/json?platform=x": 400,
		"/images/a:1/json?platform=%7B%22os%22:%22linux%22,%22architecture%22:%22s390x%22%7D": 404, "/images/a:1/attestations": 200, "/images/Bad/json": 400,
	} {
		if got, m := e.get("1.56", path); got != want {
			t.Errorf("%s: %d, want %d: %v", path, got, want, m)
		}
	}
}
