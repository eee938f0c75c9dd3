// Package lazyimage makes images of eStargz layers, and puts them into a test's registry.
package lazyimage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/testkit/imagemaker"
)

// Layer is an eStargz blob.
type Layer struct {
	Blob   []byte
	Desc   ocispec.Descriptor // with the annotation that lets it be served lazily
	DiffID digest.Digest
}

// Make makes a layer of entries; the files in first come first.
func Make(l imagemaker.Layer, first ...string) (Layer, error) {
	tar, err := l.Bytes()
	if err != nil {
		return Layer{}, err
	}
	b, err := estargz.Build(io.NewSectionReader(bytes.NewReader(tar), 0, int64(len(tar))),
		estargz.WithChunkSize(512<<10), estargz.WithCompressionLevel(gzip.BestSpeed), estargz.WithPrioritizedFiles(first))
	if err != nil {
		return Layer{}, err
	}
	all, err := io.ReadAll(b)
	if err := errors.Join(err, b.Close()); err != nil {
		return Layer{}, err
	}
	return Layer{all, ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(all), Size: int64(len(all)),
		Annotations: map[string]string{estargz.TOCJSONDigestAnnotation: b.TOCDigest().String()},
	}, b.DiffID()}, nil
}

// Registry is what an image is put into.
type Registry interface {
	AddBlob(repo string, b []byte) ocispec.Descriptor
	AddManifest(repo, tag, mediaType string, b []byte) ocispec.Descriptor
}

// Add puts an image of layers into a registry.
func Add(r Registry, repo, tag string, config ocispec.ImageConfig, layers ...Layer) (ocispec.Descriptor, error) {
	img := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Config: config, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		r.AddBlob(repo, l.Blob)
		m.Layers = append(m.Layers, l.Desc)
		img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, l.DiffID)
		img.History = append(img.History, ocispec.History{Created: &imagemaker.Epoch, CreatedBy: "test"})
	}
	b, err := json.Marshal(img)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	m.Config = r.AddBlob(repo, b)
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	if b, err = json.Marshal(m); err != nil {
		return ocispec.Descriptor{}, err
	}
	return r.AddManifest(repo, tag, m.MediaType, b), nil
}

// Web is a layer with a page for busybox's httpd, and with much that nobody reads: n files of size bytes that do not compress.
func Web(n, size int) imagemaker.Layer {
	l := imagemaker.Layer{imagemaker.Dir("www"), imagemaker.File("www/index.html", "it works\n"), imagemaker.Dir("data")}
	for i := range n {
		l = append(l, imagemaker.File(fmt.Sprintf("data/%03d", i), Noise(i, size)))
	}
	return l
}

// Noise is content that does not compress; always the same.
func Noise(seed, size int) string {
	b := make([]byte, size)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(size)})
	_, _ = src.Read(b)
	return string(b)
}
