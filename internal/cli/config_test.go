package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// configured runs a command line under a config.json.
func configured(t *testing.T, config, host string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return invoke(t, host, append([]string{"--config", dir}, args...)...)
}

func TestFormatsOfTheConfiguration(t *testing.T) {
	host := serve(t, &engine{answers: map[string]string{"GET /containers/json": oneContainer, "GET /images/json": twoImages, "GET /volumes": `{"Volumes":[{"Name":"v1","Driver":"local"}]}`,
		"GET /networks": `[{"Name":"bridge","Driver":"bridge"}]`, "GET /containers/web/stats": `{"id":"0123456789abcdef","name":"/web","pids_stats":{"current":3}}`}})
	config := `{"psFormat":"p {{.Names}}","imagesFormat":"i {{.Repository}}","volumesFormat":"v {{.Name}}","networksFormat":"n {{.Name}}","statsFormat":"s {{.Name}} {{.PIDs}}"}`
	for line, want := range map[string]string{
		"ps": "p web\n", "ps -q": "0123456789ab\n", "ps --format {{.ID}}": "0123456789ab\n", "container ls": "p web\n", "volume ls": "v v1\n", "volume ls -q": "v1\n",
		"network ls": "n bridge\n", "stats --no-stream web": "s web 3\n", "stats --no-stream --format {{.PIDs}} web": "3\n",
	} {
		if out, errs, _ := configured(t, config, host, strings.Fields(line)...); out != want || errs != "" {
			t.Errorf("%s: %q %s, want %q", line, out, errs, want)
		}
	}
	if out, _, _ := configured(t, config, host, "images"); !strings.Contains(out, "i busybox\n") || strings.Contains(out, "REPOSITORY") {
		t.Errorf("images: %q", out)
	}
	out, errs, status := configured(t, "{broken", host, "ps", "-q")
	if status != 0 || out != "0123456789ab\n" || !strings.Contains(errs, "WARNING: Error parsing config file") {
		t.Errorf("a broken file: status %d, %q %q", status, out, errs)
	}
}

// recorded keeps the last request's headers and body.
type recorded struct {
	*engine
	header http.Header
	body   map[string]any
}

func (r *recorded) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, _ := io.ReadAll(req.Body)
	r.header, r.body = req.Header.Clone(), nil
	_ = json.Unmarshal(b, &r.body)
	r.engine.ServeHTTP(w, req)
}

func TestHeadersAndProxiesOfTheConfiguration(t *testing.T) {
	rec := &recorded{engine: &engine{answers: map[string]string{"POST /containers/create": `{"Id":"0123"}`}}}
	host := serve(t, rec)
	config := `{"HttpHeaders":{"X-Meta":"one","User-Agent":"mine"},"proxies":{"default":{"httpProxy":"http://p:1","noProxy":"x"},"` + host + `":{"httpsProxy":"http://q:2"}}}`
	if _, errs, status := configured(t, config, host, "create", "-e", "A=1", "bb"); status != 0 {
		t.Fatal(errs)
	}
	if rec.header.Get("X-Meta") != "one" || !strings.HasPrefix(rec.header.Get("User-Agent"), "Gantry-Client/") {
		t.Errorf("headers %v", rec.header)
	}
	env := func() string { b, _ := json.Marshal(rec.body["Env"]); return string(b) }
	if env() != `["A=1","HTTPS_PROXY=http://q:2","https_proxy=http://q:2"]` {
		t.Errorf("the engine's own proxies: %s", env())
	}
	config = strings.Replace(config, host, "tcp://other", 1)
	if _, errs, status := configured(t, config, host, "create", "-e", "HTTP_PROXY=", "bb"); status != 0 {
		t.Fatal(errs)
	}
	if env() != `["HTTP_PROXY=","NO_PROXY=x","http_proxy=http://p:1","no_proxy=x"]` {
		t.Errorf("those for all engines, with one set by hand: %s", env())
	}
}

// A field that this program does not know stays in the file when another is written.
func TestWritingTheConfigurationKeepsTheRest(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, []byte(`{"somebodyElses":{"a":[1]},"psFormat":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	host := "unix:///nowhere"
	for _, args := range [][]string{{"context", "create", "here", "--docker", "host=" + host}, {"context", "use", "here"}} {
		if _, errs, status := invoke(t, host, append([]string{"--config", dir}, args...)...); status != 0 {
			t.Fatal(errs)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil || m["currentContext"] != "here" || m["psFormat"] != "x" || m["somebodyElses"] == nil {
		t.Errorf("%s %v", b, err)
	}
}
