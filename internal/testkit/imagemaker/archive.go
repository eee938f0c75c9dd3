package imagemaker

import (
	"archive/tar"
	"bytes"
	_ "crypto/sha256" // go-digest looks the algorithm up
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"

	"github.com/distribution/reference"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Archive is what Write writes.
type Archive struct {
	Images []Image
	OCI    bool // oci-layout and index.json
	Docker bool // manifest.json
	// Layers compresses every layer: "" or "gzip" or "zstd".
	Layers string
	// Compress compresses the whole archive.
	Compress string
	// Index puts all images (of different platforms) into one index under the first one's names. OCI only.
	Index bool
	// Skip leaves files out, by their name in the archive; Change alters their content. Both make broken archives.
	Skip   func(name string) bool
	Change func(name string, data []byte) []byte
}

// Made is an image as written.
type Made struct {
	Manifest, Config ocispec.Descriptor
	DiffIDs          []digest.Digest
	Layers           []ocispec.Descriptor
}

type maker struct {
	a     Archive
	blobs map[string][]byte
}

// Write writes an archive. Without OCI and Docker it is both.
func Write(w io.Writer, a Archive) ([]Made, error) {
	if !a.OCI && !a.Docker {
		a.OCI, a.Docker = true, true
	}
	m := &maker{a, map[string][]byte{}}
	files := map[string][]byte{}
	var made []Made
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	type dockerImage struct {
		Config           string
		RepoTags, Layers []string
	}
	var docker []dockerImage
	for _, img := range a.Images {
		i, err := m.image(img)
		if err != nil {
			return nil, err
		}
		made = append(made, i)
		d := dockerImage{Config: blobName(i.Config.Digest), RepoTags: img.Names}
		for _, l := range i.Layers {
			d.Layers = append(d.Layers, blobName(l.Digest))
		}
		docker = append(docker, d)
		if !a.Index {
			index.Manifests = append(index.Manifests, withNames(i.Manifest, img.Names)...)
		} else {
			p := platform(img)
			desc := i.Manifest
			desc.Platform = &p
			index.Manifests = append(index.Manifests, desc)
		}
	}
	if a.Index {
		d, err := m.json(ocispec.MediaTypeImageIndex, index)
		if err != nil {
			return nil, err
		}
		index.Manifests = withNames(d, a.Images[0].Names)
	}
	if a.OCI {
		files["oci-layout"] = []byte(`{"imageLayoutVersion":"1.0.0"}`)
		files["index.json"], _ = json.Marshal(index)
	}
	if a.Docker {
		files["manifest.json"], _ = json.Marshal(docker)
	}
	return made, m.write(w, files)
}

func blobName(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }

func withNames(d ocispec.Descriptor, names []string) (out []ocispec.Descriptor) {
	for _, n := range names {
		named, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			continue
		}
		named = reference.TagNameOnly(named)
		c := d
		c.Annotations = map[string]string{"io.containerd.image.name": named.String(), ocispec.AnnotationRefName: named.(reference.Tagged).Tag()}
		out = append(out, c)
	}
	if len(names) == 0 {
		out = append(out, d)
	}
	return out
}

func platform(i Image) ocispec.Platform {
	p := i.Platform
	if p.OS == "" {
		p.OS = "linux"
	}
	if p.Architecture == "" {
		p.Architecture = runtime.GOARCH
	}
	return p
}

func (m *maker) blob(mediaType string, b []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	m.blobs[blobName(d.Digest)] = b
	return d
}

func (m *maker) json(mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return m.blob(mediaType, b), nil
}

func (m *maker) image(img Image) (made Made, err error) {
	created := img.Created
	if created.IsZero() {
		created = Epoch
	}
	c := dockerspec.DockerOCIImage{Config: img.Config}
	c.Created, c.Author, c.Platform = &created, img.Author, platform(img)
	c.RootFS.Type = "layers"
	for n, l := range img.Layers {
		b, err := l.Bytes()
		if err != nil {
			return made, err
		}
		made.DiffIDs = append(made.DiffIDs, digest.FromBytes(b))
		mediaType := ocispec.MediaTypeImageLayer
		if m.a.Layers != "" {
			mediaType += "+" + m.a.Layers
			if b, err = compressed(b, m.a.Layers); err != nil {
				return made, err
			}
		}
		made.Layers = append(made.Layers, m.blob(mediaType, b))
		by := fmt.Sprintf("layer %d", n)
		if n < len(img.History) {
			by = img.History[n]
		}
		c.History = append(c.History, ocispec.History{Created: &created, CreatedBy: by})
	}
	c.RootFS.DiffIDs = made.DiffIDs
	if made.Config, err = m.json(ocispec.MediaTypeImageConfig, c); err != nil {
		return made, err
	}
	layers := made.Layers
	if layers == nil {
		layers = []ocispec.Descriptor{}
	}
	made.Manifest, err = m.json(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: made.Config, Layers: layers,
	})
	return made, err
}

func compressed(b []byte, how string) ([]byte, error) {
	var out bytes.Buffer
	w, err := compressor(&out, how)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func compressor(w io.Writer, how string) (io.WriteCloser, error) {
	switch how {
	case "":
		return nopCloser{w}, nil
	case "gzip":
		return gzip.NewWriter(w), nil
	case "zstd":
		return zstd.NewWriter(w)
	}
	return nil, fmt.Errorf("unknown compression %q", how)
}

// write writes the blobs in order of their names, then the other files.
func (m *maker) write(w io.Writer, files map[string][]byte) error {
	z, err := compressor(w, m.a.Compress)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(z)
	for _, set := range []map[string][]byte{m.blobs, files} {
		for _, name := range slices.Sorted(maps.Keys(set)) {
			data := set[name]
			if m.a.Skip != nil && m.a.Skip(name) {
				continue
			}
			if m.a.Change != nil {
				data = m.a.Change(name, data)
			}
			if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: Epoch}); err != nil {
				return err
			}
			if _, err := tw.Write(data); err != nil {
				return err
			}
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return z.Close()
}
