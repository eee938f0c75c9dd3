package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	fake "github.com/gantry-engine/gantry/internal/testkit/registry"
)

// old has a registry know nothing of referrers.
func old(reg *fake.Registry) {
	reg.Break(fake.Fault{Path: "/referrers/", Status: http.StatusNotFound, Body: "404 page not found"}, fake.Fault{Method: "PUT", Path: "/manifests/sha256:", Header: map[string]string{"OCI-Subject": ""}})
}

// referrer is a manifest that refers to subject, with its configuration in the registry.
func referrer(t *testing.T, reg *fake.Registry, subject ocispec.Descriptor, n int) (ocispec.Descriptor, []byte) {
	t.Helper()
	config := reg.AddBlob("app", []byte("{}"))
	config.MediaType = ocispec.MediaTypeEmptyJSON
	b, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "test/x", Config: config, Layers: []ocispec.Descriptor{config},
		Subject: &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}, Annotations: map[string]string{"n": fmt.Sprint(n)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "test/x", Digest: digest.FromBytes(b), Size: int64(len(b))}, b
}

// What was stored as a referrer is found, whether or not the registry knows of referrers, also when several come at once.
func TestReferrers(t *testing.T) {
	for _, kind := range []string{"new", "old"} {
		t.Run(kind, func(t *testing.T) {
			reg := fake.New(t)
			if kind == "old" {
				old(reg)
			}
			image := reg.AddImage("app", "1", fake.Image{})
			r, _ := app(t, reg)
			if list, err := r.Referrers(t.Context(), image.Digest); err != nil || len(list) != 0 {
				t.Errorf("none: %v, %v", list, err)
			}
			var wg sync.WaitGroup
			for n := range 3 {
				d, body := referrer(t, reg, image, n)
				wg.Go(func() {
					if err := r.Refer(t.Context(), image.Digest, d, body); err != nil && !errdefs.IsUnavailable(err) {
						t.Error(err)
					}
					if err := r.Refer(t.Context(), image.Digest, d, body); err != nil { // again changes nothing
						t.Error(err)
					}
				})
			}
			wg.Wait()
			list, err := r.Referrers(t.Context(), image.Digest)
			if err != nil || len(list) == 0 || len(list) > 3 || list[0].ArtifactType != "test/x" {
				t.Errorf("%v, %v", list, err)
			}
			if kind == "new" && len(list) != 3 {
				t.Errorf("%d referrers", len(list))
			}
			_, _, tagged := reg.Manifest("app", ReferrersTag(image.Digest))
			if tagged != (kind == "old") {
				t.Errorf("there is a list under the tag: %v", tagged)
			}
		})
	}
}

// One after the other, nothing is lost of a list under a tag.
func TestReferrersOneByOne(t *testing.T) {
	reg := fake.New(t)
	old(reg)
	image := reg.AddImage("app", "1", fake.Image{})
	r, _ := app(t, reg)
	for n := range 4 {
		d, body := referrer(t, reg, image, n)
		if err := r.Refer(t.Context(), image.Digest, d, body); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := r.Referrers(t.Context(), image.Digest); err != nil || len(list) != 4 {
		t.Errorf("%v, %v", list, err)
	}
}

// Lists that lie, break off or never end.
func TestBadReferrers(t *testing.T) {
	reg := fake.New(t)
	image := reg.AddImage("app", "1", fake.Image{})
	index := map[string]string{"Content-Type": ocispec.MediaTypeImageIndex}
	next := map[string]string{"Content-Type": ocispec.MediaTypeImageIndex, "Link": `</v2/app/referrers/` + image.Digest.String() + `?more>; rel="next"`}
	page := `{"manifests":[` + strings.Repeat(`{"digest":"x"},`, 99) + `{"digest":"x"}]}`
	for what, c := range map[string]struct {
		fault fake.Fault
		want  string
		n     int
	}{
		"no JSON":    {fake.Fault{Path: "/referrers/", Status: 200, Header: index, Body: "<html>"}, "not the JSON", 0},
		"too large":  {fake.Fault{Path: "/referrers/", Status: 200, Header: index, Body: `{"x":"` + strings.Repeat("x", 5<<20) + `"}`}, "more than 4194304 bytes", 0},
		"endless":    {fake.Fault{Path: "/referrers/", More: 1 << 40}, "more than 4194304 bytes", 0},
		"web page":   {fake.Fault{Path: "/referrers/", Status: 200, Header: map[string]string{"Content-Type": "text/html"}, Body: "<html>"}, "", 0},
		"in circles": {fake.Fault{Path: "/referrers/", Status: 200, Header: next, Body: page}, "", 200},
		"broken":     {fake.Fault{Path: "/referrers/", Status: 500}, "500", 0},
	} {
		t.Run(what, func(t *testing.T) {
			reg.Break(c.fault)
			defer reg.Mend()
			r, _ := app(t, reg)
			list, err := r.Referrers(t.Context(), image.Digest)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) || len(list) != c.n {
				t.Errorf("%d referrers, %v, want %q", len(list), err, c.want)
			}
		})
	}
}

// A mirror that knows of no signature is no proof that there is none.
func TestReferrersBehindAMirror(t *testing.T) {
	reg, mirror := fake.New(t), fake.New(t)
	image := reg.AddImage("app", "1", fake.Image{})
	d, body := referrer(t, reg, image, 1)
	c, _ := client(t, Config{Mirrors: []string{reg.Host + "=" + mirror.URL}})
	r := repository(t, c, reg.Host+"/app", registry.AuthConfig{})
	if err := r.Refer(t.Context(), image.Digest, d, body); err != nil {
		t.Fatal(err)
	}
	list, err := r.Referrers(t.Context(), image.Digest)
	if err != nil || len(list) != 1 || list[0].Digest != d.Digest {
		t.Errorf("%v, %v", list, err)
	}
	count(t, mirror, "GET", "/referrers/", 1)
	count(t, mirror, "PUT", "", 0)
}
