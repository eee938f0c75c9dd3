package registry

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestEqualImagesAreEqual(t *testing.T) {
	one, two := New(t), New(t)
	img := Image{Layers: [][]byte{[]byte("a tar"), []byte("another")}, Config: ocispec.ImageConfig{Cmd: []string{"sh"}}}
	d := one.AddImage("app", "1", img)
	if again := two.AddImage("other", "", img); again.Digest != d.Digest {
		t.Errorf("%s and %s", d.Digest, again.Digest)
	}
	_, body, _ := one.Manifest("app", "1")
	var m ocispec.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	for _, part := range append(m.Layers, m.Config) {
		if b, ok := one.Blob("app", part.Digest); !ok || int64(len(b)) != part.Size || digest.FromBytes(b) != part.Digest {
			t.Errorf("%s is not there as it is described", part.Digest)
		}
	}
	if d.Platform.Architecture != "amd64" || len(m.Layers) != 2 {
		t.Errorf("the platform is %v, the layers are %v", d.Platform, m.Layers)
	}
}

func TestTheLogTellsWhatReallyWentOut(t *testing.T) {
	reg := New(t)
	d := reg.AddBlob("app", bytes.Repeat([]byte("x"), 1000))
	reg.Break(Fault{Method: "GET", Skip: 1, Times: 1, Cut: 300})
	for _, rg := range []string{"bytes=0-99", "bytes=100-", "bytes=400-", "bytes=999-"} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, reg.URL+"/v2/app/blobs/"+d.Digest.String(), nil)
		req.Header.Set("Range", rg)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	got := reg.Requests("GET", "/blobs/")
	for i, want := range [][2]int64{{0, 100}, {100, 300}, {400, 600}, {999, 1}} {
		if got[i].Offset != want[0] || got[i].Bytes != want[1] || got[i].Status != http.StatusPartialContent {
			t.Errorf("request %d: %d, %d bytes at %d", i, got[i].Status, got[i].Bytes, got[i].Offset)
		}
	}
	if at := Twice(got[:3]); at != -1 {
		t.Errorf("byte %d went out once", at)
	}
	if at := Twice(got); at != 999 {
		t.Errorf("byte 999 went out twice, not %d", at)
	}
}

func TestAnUploadGoesOnOnlyWhereItStands(t *testing.T) {
	reg := New(t)
	var at string
	for _, step := range []struct {
		method, path, rg, body string
		status                 int
	}{
		{"POST", "/v2/app/blobs/uploads/", "", "", 202},
		{"PATCH", "", "", "hel", 202},
		{"PATCH", "", "2-4", "lo", 416},
		{"PATCH", "/v2/app/blobs/uploads/upload-1?turn=1", "3-4", "lo", 404},
		{"PATCH", "", "3-4", "lo", 202},
		{"PUT", "&digest=" + digest.FromString("hello").String(), "", "", 201},
		{"GET", "/v2/app/blobs/" + digest.FromString("hello").String(), "", "", 200},
		{"GET", "/v2/other/blobs/" + digest.FromString("hello").String(), "", "", 404},
		{"POST", "/v2/other/blobs/uploads/?from=app&mount=" + digest.FromString("hello").String(), "", "", 201},
	} {
		path := step.path
		if path == "" || path[0] == '&' {
			path = at + path
		}
		req, _ := http.NewRequestWithContext(t.Context(), step.method, reg.URL+path, bytes.NewReader([]byte(step.body)))
		req.Header.Set("Content-Range", step.rg)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != step.status {
			t.Errorf("%s %s %s: %s, want %d", step.method, path, step.rg, resp.Status, step.status)
		}
		if l := resp.Header.Get("Location"); l != "" {
			at = l
		}
	}
}
