package images_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

func TestLoadsEveryFormat(t *testing.T) {
	for name, a := range map[string]imagemaker.Archive{
		"both":                    {},
		"docker":                  {Docker: true},
		"oci":                     {OCI: true},
		"gzip layers":             {Layers: "gzip"},
		"zstd layers":             {OCI: true, Layers: "zstd"},
		"docker with zstd layers": {Docker: true, Layers: "zstd"},
		"gzip archive":            {Compress: "gzip"},
		"zstd archive":            {Docker: true, Compress: "zstd"},
	} {
		for _, driver := range []string{"overlay", "copy"} {
			t.Run(name+" "+driver, func(t *testing.T) {
				a.Images = []imagemaker.Image{small}
				b, made := pack(t, a)
				h := open(t, t.TempDir(), driver)
				var out bytes.Buffer
				if err := h.Load(t.Context(), bytes.NewReader(b), nil, images.NewProgress(&out, true)); err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(out.String(), `Loaded image: small:1\n`) {
					t.Errorf("output %q", out.String())
				}
				img, err := h.Resolve(t.Context(), "small:1", nil)
				if err != nil {
					t.Fatal(err)
				}
				if img.Config != made[0].Config.Digest || img.Name != "small:1" || len(img.DiffIDs) != 3 {
					t.Errorf("resolved %+v", img)
				}
				if a.OCI && img.ID != made[0].Manifest.Digest {
					t.Errorf("ID %s, want the manifest's digest %s", img.ID, made[0].Manifest.Digest)
				}
				for _, ref := range []string{"small:1", "docker.io/library/small:1", string(img.ID), img.ID.Encoded(), img.ID.Encoded()[:12], string(img.Config), img.Config.Encoded()[:12], "small@" + string(img.ID)} {
					if got, err := h.Resolve(t.Context(), ref, nil); err != nil || got.ID != img.ID {
						t.Errorf("%s: %v %v", ref, got.ID, err)
					}
				}
				root, err := h.layers.Create(t.Context(), "c1", img, containers.LayerOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if want := 4; driver == "overlay" && len(root.Lower) != want /* the image's and the stubs */ || driver == "copy" && root.Path == "" {
					t.Errorf("root %+v", root)
				}
				if _, err := h.Resolve(t.Context(), "nosuch", nil); !errdefs.IsNotFound(err) || err.Error() != "No such image: nosuch:latest" {
					t.Errorf("unknown image: %v", err)
				}
				if _, err := h.Resolve(t.Context(), "Bad//Name", nil); !errdefs.IsInvalidArgument(err) {
					t.Errorf("bad name: %v", err)
				}
			})
		}
	}
}

func TestBrokenArchivesLeaveNothing(t *testing.T) {
	good, _ := pack(t, imagemaker.Archive{Images: []imagemaker.Image{small}, OCI: true})
	_, made := pack(t, imagemaker.Archive{Images: []imagemaker.Image{small}})
	layer := "blobs/sha256/" + made[0].Layers[1].Digest.Encoded()
	lacking := func(a imagemaker.Archive) []byte {
		a.Images = []imagemaker.Image{small}
		a.Skip = func(n string) bool { return n == layer }
		b, _ := pack(t, a)
		return b
	}
	altered := func(a imagemaker.Archive) []byte {
		a.Images = []imagemaker.Image{small}
		a.Change = func(n string, d []byte) []byte {
			if n == layer {
				d = bytes.Clone(d)
				d[600] ^= 1
			}
			return d
		}
		b, _ := pack(t, a)
		return b
	}
	bad := func(e imagemaker.Entry) []byte {
		b, _ := pack(t, imagemaker.Archive{Images: []imagemaker.Image{{Names: []string{"bad:1"}, Layers: []imagemaker.Layer{{e}}}}})
		return b
	}
	climber := imagemaker.File("x", "y")
	climber.Header.Name = "../../x"
	for name, c := range map[string]struct {
		archive []byte
		text    string
	}{
		"empty":          {nil, "neither"},
		"no tar":         {bytes.Repeat([]byte("no tar at all "), 100), "not a tar file"},
		"truncated":      {good[:len(good)/2], "truncated"},
		"missing layer":  {lacking(imagemaker.Archive{OCI: true}), "missing in the archive"},
		"missing layer2": {lacking(imagemaker.Archive{Docker: true}), "not in the archive"},
		"digest":         {altered(imagemaker.Archive{OCI: true}), "digest mismatch"},
		"no manifest":    {func() []byte { b, _ := pack(t, imagemaker.Archive{}); return b }(), "no image"},
		"climbing layer": {bad(climber), "leads out of"},
		"hard link":      {bad(imagemaker.Link("a", "/nowhere")), "target"},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, t.TempDir(), "overlay")
			before := files(t, h.dir+"/content/blobs") + files(t, h.dir+"/layers/layers")
			err := h.Load(t.Context(), bytes.NewReader(c.archive), nil, images.Progress{})
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("error %v, want %q", err, c.text)
			}
			if _, err := h.Resolve(t.Context(), "small:1", nil); !errdefs.IsNotFound(err) {
				t.Errorf("a broken image has a name: %v", err)
			}
			if after := files(t, h.dir+"/content/blobs") + files(t, h.dir+"/layers/layers"); after > before+1 { // the folder sha256
				t.Errorf("%d files left behind", after-before)
			}
			if n := files(t, h.dir+"/content/ingest"); n > 1 {
				t.Errorf("%d ingests left behind", n-1)
			}
		})
	}
}
