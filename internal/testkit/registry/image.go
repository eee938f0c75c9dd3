package registry

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is an image to be made. Equal ones have equal digests.
type Image struct {
	Platform ocispec.Platform // linux/amd64 if it is empty
	Config   ocispec.ImageConfig
	Layers   [][]byte // tars, not compressed
	// Compress compresses a layer to gzip; nil does it as Go does.
	Compress func(tar []byte) []byte
}

// created is when all images were made.
var created = time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)

// AddBlob stores a blob.
func (r *Registry) AddBlob(repo string, b []byte) ocispec.Descriptor {
	d := digest.FromBytes(b)
	r.mu.Lock()
	r.repo(repo).blobs[d] = b
	r.mu.Unlock()
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(b))}
}

// AddManifest stores a manifest or an index as it is, under a tag if that is not empty.
func (r *Registry) AddManifest(repo, tag, mediaType string, b []byte) ocispec.Descriptor {
	d := digest.FromBytes(b)
	r.mu.Lock()
	to := r.repo(repo)
	to.manifests[d] = manifest{mediaType, b}
	if tag != "" {
		to.tags[tag] = d
	}
	r.mu.Unlock()
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// AddImage stores an image with its configuration and its layers, which are compressed. The descriptor has the image's platform.
func (r *Registry) AddImage(repo, tag string, img Image) ocispec.Descriptor {
	if img.Platform.OS == "" {
		img.Platform = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	}
	config := ocispec.Image{Created: &created, Platform: img.Platform, Config: img.Config, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, tar := range img.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(tar))
		config.History = append(config.History, ocispec.History{Created: &created, CreatedBy: "test"})
		blob := compress
		if img.Compress != nil {
			blob = img.Compress
		}
		d := r.AddBlob(repo, blob(tar))
		d.MediaType = ocispec.MediaTypeImageLayerGzip
		m.Layers = append(m.Layers, d)
	}
	m.Config = r.AddBlob(repo, encode(config))
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	d := r.AddManifest(repo, tag, m.MediaType, encode(m))
	d.Platform = &img.Platform
	return d
}

// AddIndex stores an index of images.
func (r *Registry) AddIndex(repo, tag string, images ...ocispec.Descriptor) ocispec.Descriptor {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: images}
	return r.AddManifest(repo, tag, index.MediaType, encode(index))
}

// Blob gives a blob that a repository has.
func (r *Registry) Blob(repo string, d digest.Digest) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.repos[repo] == nil {
		return nil, false
	}
	b, ok := r.repos[repo].blobs[d]
	return b, ok
}

// Manifest gives what a tag or a digest names in a repository.
func (r *Registry) Manifest(repo, ref string) (mediaType string, body []byte, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.repos[repo] == nil {
		return "", nil, false
	}
	d, ok := r.repos[repo].tags[ref]
	if !ok {
		d = digest.Digest(ref)
	}
	m, ok := r.repos[repo].manifests[d]
	return m.mediaType, m.body, ok
}

func compress(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b) // to memory: it cannot fail
	_ = z.Close()
	return out.Bytes()
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // structs without anything that has no JSON
	}
	return b
}
