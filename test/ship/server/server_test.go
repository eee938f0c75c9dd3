package server

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/authority"
)

// What goes beyond a quota is refused with the figures, whatever way it comes.
func TestQuotas(t *testing.T) {
	r := testkit.StartOwnRegistry(t, false, nil, "--quota", "small/*=1kB", "--quota-total", "1MB")
	c := of(r)
	c.blob(t, "small/a", make([]byte, 600))
	refused := func(status int, body string) {
		t.Helper()
		if status != http.StatusForbidden || !strings.Contains(body, "DENIED") || !strings.Contains(body, "quota exceeded") || !strings.Contains(body, "may take 1") {
			t.Errorf("%d %s", status, body)
		}
	}
	big := bytes.Repeat([]byte("x"), 500)
	resp, b, err := c.do("POST", "/v2/small/a/blobs/uploads/?digest=sha256:"+strings.Repeat("0", 64), big)
	if err != nil {
		t.Fatal(err)
	}
	refused(resp.StatusCode, string(b))
	d := c.blob(t, "free", big)
	resp, b, err = c.do("POST", "/v2/small/a/blobs/uploads/?from=free&mount="+d.Digest.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	refused(resp.StatusCode, string(b))
	resp, _ = c.want(t, 202, "POST", "/v2/free/blobs/uploads/", nil)
	resp, b, err = c.do("PATCH", resp.Header.Get("Location"), make([]byte, 1_100_000))
	if err != nil {
		t.Fatal(err)
	}
	refused(resp.StatusCode, string(b))
	c.blob(t, "small/b", make([]byte, 600)) // each of its own
}

// gc shows and removes what nothing leads to, beside the running registry and in its folder.
func TestCollect(t *testing.T) {
	r := testkit.StartOwnRegistry(t, false, nil)
	c := of(r)
	kept := c.image(t, "a", "kept", nil, []byte("layer"))
	gone := c.image(t, "a", "gone", nil, []byte("another layer"))
	c.want(t, 202, "DELETE", "/v2/a/manifests/gone", nil)
	collect := func(args ...string) string {
		t.Helper()
		out, code := gantry(t, append([]string{"registry", "gc", "--data", r.Dir, "--grace", "0s", "--untagged"}, args...)...)
		if code != 0 {
			t.Fatalf("gc: %d %s", code, out)
		}
		return out
	}
	young, code := gantry(t, "registry", "gc", "--data", r.Dir, "--untagged")
	if code != 0 || !strings.Contains(young, "Removed 0 manifests, 0 blobs") {
		t.Errorf("what is young was collected: %s", young)
	}
	time.Sleep(1100 * time.Millisecond) // links have times in seconds
	if out := collect("--dry-run"); !strings.Contains(out, "manifest a@"+gone.Digest.String()) || strings.Contains(out, kept.Digest.String()) || !strings.Contains(out, "Would remove 1 manifests") {
		t.Errorf("dry run:\n%s", out)
	}
	c.want(t, 200, "GET", "/v2/a/manifests/"+gone.Digest.String(), nil)
	if out := collect(); !strings.Contains(out, "Removed 1 manifests") {
		t.Errorf("%s", out)
	}
	c.want(t, 404, "GET", "/v2/a/manifests/"+gone.Digest.String(), nil)
	c.blob(t, "a", []byte("orphan"))
	time.Sleep(1100 * time.Millisecond)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if out := collect("-q"); !strings.Contains(out, "Removed 0 manifests, ") || strings.Contains(out, "0 blobs") {
		t.Errorf("in the folder: %s", out)
	}
	r.Start(t)
	pullable(t, c, "a", "kept")
	if out, code := gantry(t, "registry", "gc", "--data", filepath.Join(r.Dir, "none")); code != 1 || !strings.Contains(out, "no registry's folder") {
		t.Errorf("%d %s", code, out)
	}
}

// pullable reads an image whole.
func pullable(t *testing.T, c *client, repo, ref string) {
	t.Helper()
	_, body := c.want(t, 200, "GET", "/v2/"+repo+"/manifests/"+ref, nil)
	var m struct {
		Config struct{ Digest string }
		Layers []struct {
			Digest string
			Size   int64
		}
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatal(err)
	}
	c.want(t, 200, "GET", "/v2/"+repo+"/blobs/"+m.Config.Digest, nil)
	for _, l := range m.Layers {
		if _, b := c.want(t, 200, "GET", "/v2/"+repo+"/blobs/"+l.Digest, nil); int64(len(b)) != l.Size {
			t.Errorf("%s has %d bytes, not %d", l.Digest, len(b), l.Size)
		}
	}
}

// An upload that was cut by a kill goes on where GET says it stands.
func TestUploadGoesOnAfterAKill(t *testing.T) {
	r := testkit.StartOwnRegistry(t, false, nil)
	c := of(r)
	content := bytes.Repeat([]byte("0123456789"), 300_000)
	resp, _ := c.want(t, 202, "POST", "/v2/a/blobs/uploads/", nil)
	location := resp.Header.Get("Location")
	pr, pw := io.Pipe()
	req, err := http.NewRequest("PATCH", r.URL()+location, pr)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		failed <- err
	}()
	if _, err := pw.Write(content[:1_000_000]); err != nil {
		t.Fatal(err)
	}
	stands := func() int64 {
		resp, _ := c.want(t, 204, "GET", location, nil)
		var last int64
		if _, err := fmt.Sscanf(resp.Header.Get("Range"), "0-%d", &last); err != nil {
			t.Fatal(err)
		}
		return last + 1
	}
	for stands() < 900_000 {
		time.Sleep(5 * time.Millisecond)
	}
	r.Kill()
	_ = pw.CloseWithError(io.ErrUnexpectedEOF)
	if err := <-failed; err == nil {
		t.Error("a request that a kill cut was answered")
	}
	r.Start(t)
	at := stands()
	if at < 900_000 || at > 1_000_000 {
		t.Fatalf("%d bytes are here", at)
	}
	c.want(t, 416, "PATCH", location, []byte("x"), "Content-Range", "5-5")
	c.want(t, 202, "PATCH", location, content[at:2_000_000], "Content-Range", fmt.Sprintf("%d-%d", at, 1_999_999))
	d := c.blob(t, "other", content).Digest.String()
	c.want(t, 201, "PUT", location+"?digest="+d, content[2_000_000:], "Content-Range", fmt.Sprintf("2000000-%d", len(content)-1))
	if _, b := c.want(t, 200, "GET", "/v2/a/blobs/"+d, nil); b != string(content) {
		t.Error("another content came back")
	}
	left, err := os.ReadDir(filepath.Join(r.Dir, "uploads"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

// The certificate and the users change while the registry runs.
func TestReload(t *testing.T) {
	first, second := authority.New(t), authority.New(t)
	first.Issue(t, "registry")
	second.Issue(t, "registry")
	dir := t.TempDir()
	cert, key, users := filepath.Join(dir, "cert"), filepath.Join(dir, "key"), filepath.Join(dir, "users")
	install := func(a *authority.Authority) {
		for from, to := range map[string]string{"registry.pem": cert, "registry-key.pem": key} {
			b, err := os.ReadFile(a.Path(from))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(to, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	trusting := func(a *authority.Authority) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Pool}, DisableKeepAlives: true}}
	}
	install(first)
	addUser(t, users, "ann", "one")
	r := testkit.StartOwnRegistry(t, true, trusting(first), "--tls-cert", cert, "--tls-key", key, "--htpasswd", users)
	c := &client{url: r.URL(), http: trusting(first)}
	c.want(t, 401, "GET", "/v2/", nil)
	c.as("ann", "one").want(t, 200, "GET", "/v2/", nil)
	install(second)
	addUser(t, users, "ann", "two")
	if err := r.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	c.http = trusting(second)
	for i := 0; ; i++ {
		resp, _, err := c.as("ann", "two").do("GET", "/v2/", nil)
		if err == nil && resp.StatusCode == http.StatusOK {
			break
		}
		if i == 500 {
			t.Fatalf("%v %v", resp, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.as("ann", "one").want(t, 401, "GET", "/v2/", nil)
	out, code := gantry(t, "registry", "user", "ls", "--htpasswd", users)
	if code != 0 || out != "ann\n" {
		t.Errorf("%d %s", code, out)
	}
	if out, code := gantry(t, "registry", "user", "rm", "--htpasswd", users, "eve"); code != 1 || !strings.Contains(out, `no user "eve"`) {
		t.Errorf("%d %s", code, out)
	}
}

// Events arrive with their signature, counters count, and SIGTERM lets a request end.
func TestHooksMetricsAndEnd(t *testing.T) {
	events := make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		events <- r.Header.Get("X-Gantry-Signature") + string(b)
	}))
	defer hook.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("k"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := testkit.StartOwnRegistry(t, false, nil, "--hook", hook.URL, "--hook-secret-file", secret)
	c := of(r)
	d := c.image(t, "a/b", "v1", nil, []byte("layer"))
	c.want(t, 200, "GET", "/v2/a/b/manifests/v1", nil)
	c.want(t, 202, "DELETE", "/v2/a/b/manifests/v1", nil)
	seen := ""
	for !strings.Contains(seen, `"action":"delete"`) {
		select {
		case e := <-events:
			if !strings.HasPrefix(e, "sha256=") {
				t.Errorf("not signed: %s", e)
			}
			seen += e
		case <-time.After(30 * time.Second):
			t.Fatalf("no delete in %s", seen)
		}
	}
	for _, want := range []string{`"action":"push"`, `"action":"pull"`, `"tag":"v1"`, `"repository":"a/b"`, d.Digest.String()} {
		if !strings.Contains(seen, want) {
			t.Errorf("no %s in %s", want, seen)
		}
	}
	_, metrics := c.want(t, 200, "GET", "http://"+r.Debug+"/metrics", nil)
	for _, want := range []string{`gantry_registry_requests_total{method="GET",route="manifest",status="200"} 1`, `gantry_registry_hook_events_total{result="sent"}`, "gantry_registry_storage_bytes"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	c.want(t, 200, "GET", "http://"+r.Debug+"/healthz", nil)
	c.want(t, 404, "GET", "/metrics", nil)

	resp, _ := c.want(t, 202, "POST", "/v2/a/b/blobs/uploads/", nil)
	pr, pw := io.Pipe()
	req, err := http.NewRequest("PATCH", r.URL()+resp.Header.Get("Location"), pr)
	if err != nil {
		t.Fatal(err)
	}
	status := make(chan int, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		_ = resp.Body.Close()
		status <- resp.StatusCode
	}()
	if _, err := pw.Write([]byte("some")); err != nil {
		t.Fatal(err)
	}
	for range 1000 { // until the registry has it
		if now, _ := c.want(t, 204, "GET", resp.Header.Get("Location"), nil); now.Header.Get("Range") == "0-3" {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Stop() }()
	for i := 0; ; i++ { // it takes no new connections
		if _, _, err := (&client{url: r.URL(), http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}).do("GET", "/v2/", nil); err != nil {
			break
		}
		if i == 500 {
			t.Fatal("it goes on taking connections")
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = pw.Close()
	if got := <-status; got != http.StatusAccepted {
		t.Errorf("a request under way ended with %d", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("the registry ended with %v", err)
	}
}

// The command line looks into a registry by its URL.
func TestLookInto(t *testing.T) {
	r := testkit.StartOwnRegistry(t, false, nil)
	c := of(r)
	d := c.image(t, "team/app", "v1", nil, make([]byte, 2000))
	c.image(t, "team/app", "v2", nil, make([]byte, 3000))
	c.image(t, "z", "v1", nil)
	for _, x := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"repo", "ls", r.Addr}, 0, "REPOSITORY\nteam/app\nz\n"},
		{[]string{"repo", "ls", "--format", "{{.Image}}", "http://" + r.Addr}, 0, r.Addr + "/z"},
		{[]string{"tag", "ls", "-q", r.Addr + "/team/app"}, 0, "v1\nv2\n"},
		{[]string{"tag", "ls", r.Addr + "/team/app"}, 0, d.Digest.String() + "   manifest"},
		{[]string{"tag", "ls", r.Addr + "/none"}, 1, "name unknown: there is no repository none"},
		{[]string{"tag", "ls", r.Addr}, 1, "a repository without a tag is needed"},
		{[]string{"rm", r.Addr + "/team/app:v2"}, 0, r.Addr + "/team/app:v2"},
		{[]string{"rm", r.Addr + "/team/app:v2"}, 1, "manifest unknown"},
		{[]string{"rm", r.Addr + "/team/app@" + d.Digest.String()}, 0, "@sha256:"},
		{[]string{"rm", r.Addr + "/team/app"}, 1, "a tag or a digest is needed"},
		{[]string{"repo", "ls", "nowhere"}, 1, "names no registry"},
		{[]string{"serve", "--listen", r.Addr, "--data", t.TempDir()}, 1, "address already in use"},
		{[]string{"serve", "--data", r.Dir}, 1, "in use by another registry (process " + fmt.Sprint(r.PID()) + ")"},
		{[]string{"serve", "--tls-cert", "x"}, 1, "a certificate needs its key"},
		{[]string{"serve", "--nonsense"}, 125, "unknown flag: --nonsense"},
		{[]string{"serve", "--help"}, 0, "--quota-total"},
		{[]string{"serve", "-c", "/dev/null", "--cache", "UPPER", "--quota", "x", "--data", t.TempDir()}, 1, "PATTERN=SIZE"},
	} {
		out, code := gantry(t, append([]string{"registry"}, x.args...)...)
		if code != x.code || !strings.Contains(out, x.want) {
			t.Errorf("gantry registry %s: %d, want %d and %q in\n%s", strings.Join(x.args, " "), code, x.code, x.want, out)
		}
	}
}
