package images_test

import (
	"bytes"
	"testing"

	"github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// FuzzLoad feeds archives with damaged manifests and configurations: no panic, and nothing stays of what fails.
func FuzzLoad(f *testing.F) {
	whole, _ := pack(f, imagemaker.Archive{Images: []imagemaker.Image{small}})
	f.Add(whole, 0, byte(0))
	docker, _ := pack(f, imagemaker.Archive{Images: []imagemaker.Image{small}, Docker: true})
	f.Add(docker, 100, byte('{'))
	h := open(f, f.TempDir(), "overlay")
	f.Fuzz(func(t *testing.T, data []byte, at int, b byte) {
		if len(data) > 1<<20 {
			return
		}
		data = bytes.Clone(data)
		if len(data) > 0 && at >= 0 {
			data[at%len(data)] = b
		}
		if err := h.Load(t.Context(), bytes.NewReader(data), nil, images.Progress{}); err != nil {
			if _, err := h.List(t.Context(), images.ListOptions{Manifests: true}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzChanges feeds --change instructions.
func FuzzChanges(f *testing.F) {
	for _, s := range []string{`CMD ["a"]`, "ENV a=b c='d e'", "HEALTHCHECK --interval=1s CMD x", "EXPOSE 1-5/udp", "LABEL a", "VOLUME [\"x\""} {
		f.Add(s)
	}
	h := open(f, f.TempDir(), "overlay")
	f.Fuzz(func(t *testing.T, change string) {
		_ = h.Import(t.Context(), bytes.NewReader(nil), images.ImportOptions{Source: "ftp://refused", Changes: []string{change}}, images.Progress{})
	})
}
