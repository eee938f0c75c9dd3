package cli

import (
	"bytes"
	"context"
	"flag"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// engine is a fake: canned answers by method and path below the version, and a record of what was asked.
type engine struct {
	mu      sync.Mutex
	asked   []string
	answers map[string]string
	max     string // newest API version spoken
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if strings.HasPrefix(path, "/v1.") {
		var v string
		v, path, _ = strings.Cut(path[2:], "/")
		path = "/" + path
		if e.max != "" && v != e.max {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"message":"client version ` + v + ` is too new. Maximum supported API version is ` + e.max + `"}`))
			return
		}
	}
	e.mu.Lock()
	e.asked = append(e.asked, r.Method+" "+path)
	e.mu.Unlock()
	w.Header().Set("Api-Version", "1.56")
	w.Header().Set("Content-Type", "application/json")
	body, ok := e.answers[r.Method+" "+path]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		body = `{"message":"No such container: ` + filepath.Base(path) + `"}`
	}
	_, _ = w.Write([]byte(body))
}

// serve starts a fake engine on a UNIX socket and returns its address.
func serve(t *testing.T, e http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cli")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: e}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	return "unix://" + filepath.Join(dir, "s")
}

// invoke runs a command line and gives what it printed and its status.
func invoke(t *testing.T, host string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errw bytes.Buffer
	a := app.New("gantry")
	a.In, a.Out, a.Err = app.NewInput(strings.NewReader("")), app.NewOutput(&out), &errw
	env := map[string]string{"DOCKER_HOST": host}
	a.Env = func(k string) string { return env[k] }
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	err := a.Run(context.Background(), Root(), args, app.Hooks{
		Plugin:  func(context.Context, string, []string) (bool, error) { return false, nil },
		Plugins: func() []*app.Command { return nil },
	})
	if err != nil && err.Error() != "" {
		errw.WriteString(err.Error() + "\n")
	}
	return out.String(), errw.String(), app.ExitCode(err)
}

const (
	oneContainer = `[{"Id":"0123456789abcdef0123456789abcdef","Names":["/web","/other/link"],"Image":"busybox","ImageID":"sha256:aa","Command":"sh -c 'while true; do date; sleep 1; done'",
"Created":1,"Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"PrivatePort":90,"Type":"tcp"},{"PrivatePort":91,"Type":"tcp"}],"Labels":{"b":"2","a":"1"},"State":"running","Status":"Up 2 hours","SizeRw":12,"SizeRootFs":2000000,
"NetworkSettings":{"Networks":{"bridge":{}}},"Mounts":[{"Name":"averyveryverylongname","Driver":"local"}]}]`
	twoImages = `[{"Id":"sha256:98d8cb4afb16aaaaaaaa","RepoTags":["busybox:latest","example.org/a/b:2"],"RepoDigests":[],"Created":1,"Size":1982000,"SharedSize":-1,"Containers":-1},{"Id":"sha256:18d8cb4afb16aaaaaaaa","RepoTags":null,"Created":1,"Size":5}]`
)

func TestGolden(t *testing.T) {
	e := &engine{answers: map[string]string{
		"GET /containers/json": oneContainer, "GET /images/json": twoImages, "GET /containers/web/json": `{"Id":"0123","Name":"/web","State":{"Status":"running"},"Extra":{"Field":3}}`,
		"GET /volumes": `{"Volumes":[{"Name":"v2","Driver":"local"},{"Name":"v1","Driver":"local","Labels":{"x":"y"}}]}`, "GET /networks": `[{"Name":"none","Id":"bbbbbbbbbbbbbbbb","Driver":"null","Scope":"local"},{"Name":"bridge","Id":"aaaaaaaaaaaaaaaa","Driver":"bridge","Scope":"local"}]`,
		"GET /containers/web/top": `{"Titles":["PID","CMD"],"Processes":[["1","sleep 100"],["22","sh"]]}`, "GET /containers/web/changes": `[{"Kind":0,"Path":"/etc"},{"Kind":1,"Path":"/new"},{"Kind":2,"Path":"/old"}]`,
		"DELETE /images/busybox": `[{"Untagged":"busybox:latest"},{"Deleted":"sha256:98"}]`, "POST /containers/web/stop": "", "DELETE /containers/web": "", "POST /containers/web/wait": `{"StatusCode":137}`,
	}}
	host := serve(t, e)
	for name, args := range map[string][]string{
		"ps": {"ps", "--format", "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"}, "ps-no-trunc": {"ps", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Command}} {{.Mounts}}"},
		"ps-quiet": {"ps", "-q"}, "ps-size": {"ps", "--format", "{{.Size}} {{.Networks}} {{.LocalVolumes}} {{.Labels}} {{.Label \"a\"}}"}, "ps-bad-format": {"ps", "--format", "{{.Nope}}"},
		"ps-functions": {"ps", "--format", "{{upper .Names}} {{truncate .Image 3}} {{pad .State 1 2}}| {{join (split .Labels \",\") \"+\"}} {{json .Names}} {{title .State}}"},
		"images":       {"images", "--format", "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Size}}"}, "images-quiet": {"images", "-q"}, "inspect": {"container", "inspect", "web"},
		"inspect-raw-field": {"inspect", "-f", "{{.Extra.Field}} {{.Name}}", "web"}, "inspect-missing": {"container", "inspect", "web", "nope"}, "volume-ls": {"volume", "ls"}, "volume-json": {"volume", "ls", "--format", "json"},
		"network-ls": {"network", "ls"}, "top": {"top", "web"}, "diff": {"diff", "web"}, "rmi": {"rmi", "busybox"}, "stop": {"stop", "web", "nope"}, "rm-force": {"rm", "-f", "web", "nope"}, "wait": {"wait", "web"},
		"unknown-flag": {"ps", "--nope"}, "unknown-command": {"nope"}, "no-args": {"run"}, "help-run": {"cp", "--help"}, "group": {"volume", "--help"}, "exec-missing": {"exec", "nope", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, status := invoke(t, host, args...)
			got := "$ gantry " + strings.Join(args, " ") + "\n" + stdout + "--- stderr\n" + stderr + "--- status " + string(rune('0'+status/100)) + string(rune('0'+status/10%10)) + string(rune('0'+status%10)) + "\n"
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// A new engine is asked once; an old one tells its version in its refusal, and the request is repeated.
func TestVersionIsNegotiatedWithoutAPing(t *testing.T) {
	e := &engine{answers: map[string]string{"GET /containers/json": "[]"}}
	if _, stderr, st := invoke(t, serve(t, e), "ps", "-q"); st != 0 || len(e.asked) != 1 {
		t.Errorf("status %d, %q, asked %q; want one request", st, stderr, e.asked)
	}
	old := &engine{max: "1.41", answers: e.answers}
	if _, stderr, st := invoke(t, serve(t, old), "ps", "-q"); st != 0 || len(old.asked) != 1 {
		t.Errorf("old engine: status %d, %q, asked %q", st, stderr, old.asked)
	}
}

func TestNoEngineSaysWhatHelps(t *testing.T) {
	_, stderr, st := invoke(t, "unix://"+filepath.Join(t.TempDir(), "nothing"), "ps")
	if st != 1 || !strings.Contains(stderr, "does not exist") || !strings.Contains(stderr, "gantryd") {
		t.Errorf("status %d, %q", st, stderr)
	}
}
