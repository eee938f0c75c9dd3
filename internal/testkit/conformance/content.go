package conformance

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// bytes makes content that no other case has.
func (p *probe) bytes(n int) []byte {
	p.made++
	r := rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%s %d", p.repo, p.made)))
	b := make([]byte, n)
	_, _ = r.Read(b) // it never fails
	return b
}

// unknown is a digest that the registry cannot know.
func (p *probe) unknown() digest.Digest { return digest.FromBytes(p.bytes(16)) }

// begin opens an upload and gives its location.
func (p *probe) begin() string {
	return p.send(http.MethodPost, p.uploads(), nil).want(http.StatusAccepted).location()
}

const octets = "application/octet-stream"

// put closes an upload with all of a blob, and gives the answer.
func (p *probe) put(location string, d digest.Digest, b []byte) *answer {
	return p.send(http.MethodPut, p.with(location, "digest", d.String()), b, "Content-Type", octets)
}

// pushed pushes a blob to the case's repository.
func (p *probe) pushed(b []byte) digest.Digest {
	d := digest.FromBytes(b)
	p.put(p.begin(), d, b).want(http.StatusCreated)
	return d
}

// elsewhere does something in another repository.
func (p *probe) elsewhere(do func()) {
	own := p.repo
	p.repo = p.other()
	defer func() { p.repo = own }()
	do()
}

// described pushes a blob and gives its descriptor.
func (p *probe) described(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: p.pushed(b), Size: int64(len(b))}
}

// image makes a manifest of a configuration and a layer, both pushed.
func (p *probe) image() ocispec.Manifest {
	p.made++
	config, err := json.Marshal(ocispec.Image{
		Author:   fmt.Sprint(p.repo, p.made),
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{p.unknown()}},
	})
	if err != nil {
		panic(err) // a struct that has JSON
	}
	return ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    p.described(ocispec.MediaTypeImageConfig, config),
		Layers:    []ocispec.Descriptor{p.described(ocispec.MediaTypeImageLayerGzip, p.bytes(512))},
	}
}

// artifact makes a manifest of no image: an empty configuration, which is pushed, and a type.
func (p *probe) artifact(artifactType string) ocispec.Manifest {
	p.made++
	empty := ocispec.DescriptorEmptyJSON
	p.pushed(empty.Data)
	empty.Data = nil
	return ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType,
		Config:       empty,
		Layers:       []ocispec.Descriptor{p.described("application/vnd.test", p.bytes(64))},
		Annotations:  map[string]string{"test.made": fmt.Sprint(p.repo, p.made)},
	}
}

// index makes an index of manifests that are pushed already.
func index(children ...ocispec.Descriptor) ocispec.Index {
	if children == nil {
		children = []ocispec.Descriptor{}
	}
	return ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // structs that have JSON
	}
	return b
}

// offer pushes a manifest under a tag, or under its digest if ref is "", and gives the answer.
func (p *probe) offer(ref, mediaType string, b []byte) *answer {
	if ref == "" {
		ref = digest.FromBytes(b).String()
	}
	return p.send(http.MethodPut, p.manifest(ref), b, "Content-Type", mediaType)
}

// tagged pushes an image manifest or an index, and gives its descriptor and its bytes.
func (p *probe) tagged(ref string, m any) (ocispec.Descriptor, []byte) {
	mediaType := ocispec.MediaTypeImageManifest
	if _, ok := m.(ocispec.Index); ok {
		mediaType = ocispec.MediaTypeImageIndex
	}
	b := encode(m)
	p.offer(ref, mediaType, b).want(http.StatusCreated)
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}, b
}
