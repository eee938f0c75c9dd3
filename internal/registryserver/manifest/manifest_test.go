package manifest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/registryserver/refusal"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	config  = `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + digestA + `","size":2}`
	ociType = "application/vnd.oci.image.manifest.v1+json"
)

func TestParse(t *testing.T) {
	layer := func(mediaType, more string) string {
		return fmt.Sprintf(`{"schemaVersion":2,%s,"layers":[{"mediaType":"%s","digest":"%s","size":3%s}]}`, config, mediaType, digestA, more)
	}
	for _, c := range []struct {
		name, contentType, body string
		check                   func(*Manifest) bool
	}{
		{"oci", ociType, layer("x", ""), func(m *Manifest) bool {
			return len(m.References) == 2 && m.References[1].Kind == Layer && !m.References[1].Elsewhere
		}},
		{"with a parameter", ociType + "; charset=utf-8", layer("x", ""), func(m *Manifest) bool { return m.MediaType == ociType }},
		{"docker", DockerManifest, layer("x", ""), func(m *Manifest) bool { return m.MediaType == DockerManifest }},
		{"foreign layer", DockerManifest, layer(dockerForeign, ""), func(m *Manifest) bool { return m.References[1].Elsewhere }},
		{"non-distributable layer", ociType, layer("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", ""), func(m *Manifest) bool { return m.References[1].Elsewhere }},
		{"layer with addresses", ociType, layer("x", `,"urls":["https://x"]`), func(m *Manifest) bool { return m.References[1].Elsewhere }},
		{"type in the body", "", `{"schemaVersion":2,"mediaType":"` + ociType + `",` + config + `}`, func(m *Manifest) bool { return m.ArtifactType == "application/vnd.oci.image.config.v1+json" }},
		{"artifact", ociType, `{"schemaVersion":2,"artifactType":"a/b",` + config + `,"subject":{"digest":"` + digestA + `","size":1}}`,
			func(m *Manifest) bool { return m.ArtifactType == "a/b" && m.Subject == digestA }},
		{"list", DockerList, `{"schemaVersion":2,"manifests":[{"digest":"` + digestA + `","size":1,"platform":{"os":"linux","architecture":"arm"}}]}`,
			func(m *Manifest) bool {
				return m.References[0].Kind == Child && m.References[0].Platform.Architecture == "arm"
			}},
	} {
		m, err := Parse(c.contentType, []byte(c.body))
		if err != nil || !c.check(m) {
			t.Errorf("%s: %+v %v", c.name, m, err)
		}
	}
	for _, c := range []struct{ name, contentType, body, want string }{
		{"schema 1 by type", "application/vnd.docker.distribution.manifest.v1+prettyjws", "{}", "schema 1"},
		{"schema 1 by version", ociType, `{"schemaVersion":1,"fsLayers":[]}`, "schema 1"},
		{"schema 1 in a list", DockerList, `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.docker.distribution.manifest.v1+json","digest":"` + digestA + `","size":1}]}`, "schema 1"},
		{"no JSON", ociType, "<", "JSON"},
		{"no type", "", `{"schemaVersion":2,` + config + `}`, "neither"},
		{"unknown type", "application/zip", `{"schemaVersion":2}`, "not known"},
		{"two types", DockerManifest, `{"schemaVersion":2,"mediaType":"` + ociType + `"}`, "Content-Type"},
		{"no config", ociType, `{"schemaVersion":2}`, "no config"},
		{"both", ociType, `{"schemaVersion":2,` + config + `,"manifests":[{"digest":"` + digestA + `"}]}`, "manifests"},
		{"index with layers", "application/vnd.oci.image.index.v1+json", `{"schemaVersion":2,"layers":[{}]}`, "layers"},
		{"digest", ociType, `{"schemaVersion":2,"config":{"digest":"sha256:x"}}`, "sha256:x"},
		{"md5", ociType, `{"schemaVersion":2,"config":{"digest":"md5:d41d8cd98f00b204e9800998ecf8427e"}}`, "md5"},
		{"size", ociType, `{"schemaVersion":2,"config":{"digest":"` + digestA + `","size":-1}}`, "bytes"},
		{"subject", ociType, `{"schemaVersion":2,` + config + `,"subject":{"digest":"x"}}`, "subject"},
		{"large", ociType, strings.Repeat(" ", MaxSize+1), "more than"},
		{"many", "application/vnd.oci.image.index.v1+json", `{"schemaVersion":2,"manifests":[` + strings.Repeat(`{"digest":"`+digestA+`"},`, maxReferences) + `{"digest":"` + digestA + `"}]}`, "refers to more"},
	} {
		_, err := Parse(c.contentType, []byte(c.body))
		if !refusal.ManifestInvalid.Is(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Whatever comes is a manifest or a refusal.
func FuzzParse(f *testing.F) {
	f.Add(ociType, []byte(`{"schemaVersion":2,`+config+`}`))
	f.Add("", []byte(`{"schemaVersion":2,"mediaType":"`+DockerList+`","manifests":[{}]}`))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		m, err := Parse(contentType, body)
		if (m == nil) == (err == nil) {
			t.Errorf("%+v, %v", m, err)
		}
		if err != nil && !refusal.ManifestInvalid.Is(err) {
			t.Error(err)
		}
	})
}
