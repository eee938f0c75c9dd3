package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) {
	_ = os.Setenv("TMPDIR", "/dev/shm") // a kill loses nothing of what was written; waiting for a disk would show nothing more
	testkit.Main(m)
}

// client speaks to a registry by hand.
type client struct {
	url            string
	user, password string
	token          string
	http           *http.Client
}

func of(r *testkit.OwnRegistry) *client {
	return &client{url: r.URL(), http: &http.Client{Timeout: time.Minute}}
}

func (c client) as(user, password string) *client {
	c.user, c.password = user, password
	return &c
}

// do sends a request.
func (c *client) do(method, path string, body []byte, header ...string) (*http.Response, []byte, error) {
	if !strings.HasPrefix(path, "http") {
		path = c.url + path
	}
	req, err := http.NewRequest(method, path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.password)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, b, err
}

// want sends a request and insists on a status.
func (c *client) want(t testing.TB, status int, method, path string, body []byte, header ...string) (*http.Response, string) {
	t.Helper()
	resp, b, err := c.do(method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("%s %s: %s, want %d\n%s", method, path, resp.Status, status, b)
	}
	return resp, string(b)
}

// blob pushes a blob.
func (c *client) blob(t testing.TB, repo string, b []byte) ocispec.Descriptor {
	t.Helper()
	d, err := c.tryBlob(repo, b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (c *client) tryBlob(repo string, b []byte) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(b), Size: int64(len(b))}
	resp, answer, err := c.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.Digest.String(), b)
	if err == nil && resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("pushing a blob: %s %s", resp.Status, answer)
	}
	return d, err
}

// image pushes an image of layers; by says what made each.
func (c *client) image(t testing.TB, repo, tag string, by []string, layers ...[]byte) ocispec.Descriptor {
	t.Helper()
	created := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	config := ocispec.Image{Created: &created, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for i, l := range layers {
		m.Layers = append(m.Layers, c.blob(t, repo, l))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(l))
		if i < len(by) {
			config.History = append(config.History, ocispec.History{CreatedBy: by[i]})
		}
	}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	m.Config = c.blob(t, repo, raw)
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	return c.manifest(t, repo, tag, m.MediaType, m)
}

// manifest pushes a manifest, under its digest if the tag is empty.
func (c *client) manifest(t testing.TB, repo, tag, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	if tag == "" {
		tag = d.Digest.String()
	}
	c.want(t, 201, "PUT", "/v2/"+repo+"/manifests/"+tag, body, "Content-Type", mediaType)
	return d
}

// addUser runs `gantry registry user add`.
func addUser(t testing.TB, file, name, password string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(testkit.Bin(t), "gantry"), "registry", "user", "add", "--htpasswd", file, "--password-stdin", name)
	cmd.Stdin = strings.NewReader(password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("adding a user: %v\n%s", err, out)
	}
}

// gantry runs the command line, and gives what it printed and its status.
func gantry(t testing.TB, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(filepath.Join(testkit.Bin(t), "gantry"), args...)
	cmd.Env = append(cmd.Environ(), "DOCKER_CONFIG="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}
