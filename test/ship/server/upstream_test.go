package server

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// A private registry behind the cache: its user is the cache's, who asks needs none; ns names it, as mirrors' clients do.
func TestPrivateUpstream(t *testing.T) {
	const ann = "ann:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n" // bcrypt of "secret"
	other := testkit.StartForeignRegistry(t, testkit.RegistryOptions{Htpasswd: ann})
	there := (&client{url: "http://" + other.Addr, http: &http.Client{Timeout: time.Minute}}).as("ann", "secret")
	layer := bytes.Repeat([]byte("x"), 100_000)
	// docker-registry knows no upload in one POST.
	push := func(repo string, b []byte) string {
		d := digest.FromBytes(b).String()
		resp, _ := there.want(t, 202, "POST", "/v2/"+repo+"/blobs/uploads/", nil)
		there.want(t, 201, "PUT", resp.Header.Get("Location")+"&digest="+d, b, "Content-Type", "application/octet-stream")
		return d
	}
	config := push("team/app", []byte("{}"))
	big := push("team/app", layer)
	const kind = "application/vnd.oci.image.manifest.v1+json"
	body := `{"schemaVersion":2,"mediaType":"` + kind + `","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + config + `","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"` + big + `","size":100000}]}`
	there.want(t, 201, "PUT", "/v2/team/app/manifests/1", []byte(body), "Content-Type", kind)

	dir := t.TempDir()
	secret, file := filepath.Join(dir, "secret"), filepath.Join(dir, "registry.yaml")
	text := "cache:\n  fresh: 1h\n  upstreams:\n  - {prefix: corp, registry: '" + other.Addr + "', username: ann, password-file: " + secret + "}\n"
	for name, s := range map[string]string{secret: "secret\n", file: text} {
		if err := os.WriteFile(name, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := testkit.StartOwnRegistry(t, false, nil, "--config", file)
	c := of(r)
	if _, got := c.want(t, 200, "GET", "/v2/team/app/manifests/1?ns="+other.Addr, nil); got != body {
		t.Errorf("%s", got)
	}
	resp, part := c.want(t, 206, "GET", "/v2/corp/team/app/blobs/"+big, nil, "Range", "bytes=99990-")
	if part != strings.Repeat("x", 10) || resp.Header.Get("Content-Range") != "bytes 99990-99999/100000" {
		t.Errorf("%q %v", part, resp.Header)
	}
	pullable(t, c, "corp/team/app", "1")
	c.want(t, 404, "GET", "/v2/corp/team/app/manifests/none", nil)
	c.want(t, 404, "GET", "/v2/corp/team/none/manifests/1", nil)
	c.want(t, 404, "GET", "/v2/team/app/manifests/1?ns=unknown.example.com", nil)
	c.want(t, 405, "PUT", "/v2/corp/team/app/manifests/2", []byte(body), "Content-Type", kind)
	if _, tags := c.want(t, 200, "GET", "/v2/corp/team/app/tags/list", nil); !strings.Contains(tags, `["1"]`) {
		t.Errorf("%s", tags)
	}
	other.Stop()
	pullable(t, c, "corp/team/app", "1")
	_, metrics := c.want(t, 200, "GET", "http://"+r.Debug+"/metrics", nil)
	for _, want := range []string{`cache_total{kind="blob",result="miss"} 2`, `cache_total{kind="manifest",result="hit"}`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}
