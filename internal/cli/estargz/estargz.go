// Package estargz makes images of another kind of layer of images that are there: eStargz, whose files can be read before the
// layer is all here (docs/lazy.md). It reads and writes archives as `docker save` and `docker load` have them (an OCI image
// layout), so any engine's images can be converted.
//
//	archive ─► Open ─► layers one by one, built anew ─► Write ─► archive
package estargz

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits of what is read into memory, in bytes.
const (
	maxDocument = 8 << 20
	maxNested   = 4 // indexes in indexes
)

// Options say how layers are built.
type Options struct {
	// First are the files that are to come before all others, by their path in the image.
	First []string
	// ChunkSize bounds the piece of a file that is fetched and verified by itself, in bytes; 0 is DefaultChunkSize.
	ChunkSize int
	// Level of gzip: 1 is fast, 9 is small; 0 is the best.
	Level int
	// Progress, if set, is told of each layer: which of how many.
	Progress func(done, all int, layer ocispec.Descriptor)
}

// DefaultChunkSize is small enough for one page of a large library not to cost much, and large enough to compress well.
const DefaultChunkSize = 1 << 20

// Converter converts the images of one archive. It has to be closed.
type Converter struct {
	o     Options
	dir   string
	found map[string]bool // of First
	done  map[digest.Digest]layer
	all   int
	blobs map[digest.Digest]bool // of the new image, in dir
}

// layer is one that was built.
type layer struct {
	desc   ocispec.Descriptor
	diffID digest.Digest
}

// New makes a converter that keeps its files below tmp ("" is the system's folder for such files).
func New(tmp string, o Options) (*Converter, error) {
	if o.ChunkSize == 0 {
		o.ChunkSize = DefaultChunkSize
	}
	if o.Level == 0 {
		o.Level = gzip.BestCompression
	}
	dir, err := os.MkdirTemp(tmp, "gantry-estargz-")
	if err != nil {
		return nil, err
	}
	for i, f := range o.First {
		o.First[i] = strings.TrimPrefix(path.Clean("/"+f), "/")
	}
	return &Converter{o: o, dir: dir, found: map[string]bool{}, done: map[digest.Digest]layer{}, blobs: map[digest.Digest]bool{}}, nil
}

// Close removes the converter's files.
func (c *Converter) Close() error { return os.RemoveAll(c.dir) }

// Missed are those of First that are in no layer.
func (c *Converter) Missed() (list []string) {
	for _, f := range c.o.First {
		if !c.found[f] {
			list = append(list, f)
		}
	}
	return list
}

func (c *Converter) path(d digest.Digest) string { return filepath.Join(c.dir, d.Encoded()) }

// Open reads an archive.
func (c *Converter) Open(r io.Reader) (ocispec.Index, error) {
	var index ocispec.Index
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return index, fmt.Errorf("reading the image's archive: %w", err)
		}
		switch name := path.Clean(h.Name); {
		case name == ocispec.ImageIndexFile:
			if err := json.NewDecoder(io.LimitReader(tr, maxDocument)).Decode(&index); err != nil {
				return index, fmt.Errorf("the archive's %s: %w", name, err)
			}
		case strings.HasPrefix(name, "blobs/sha256/") && h.Typeflag == tar.TypeReg:
			d := digest.NewDigestFromEncoded(digest.SHA256, path.Base(name))
			if err := d.Validate(); err != nil {
				return index, fmt.Errorf("the archive has a blob %q: %w", name, err)
			}
			if err := c.receive(d, tr); err != nil {
				return index, err
			}
		}
	}
	if len(index.Manifests) == 0 {
		return index, errors.New("the engine gave an archive without an OCI index: its images cannot be converted")
	}
	return index, nil
}

// receive stores a blob of the archive, and verifies it.
func (c *Converter) receive(d digest.Digest, r io.Reader) error {
	f, err := os.OpenFile(c.path(d), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	v := d.Verifier()
	_, err = io.Copy(io.MultiWriter(f, v), r)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if !v.Verified() {
		return fmt.Errorf("the archive's blob %s has another digest", d)
	}
	return nil
}

// Convert builds the images of an index anew, and gives the new index's one entry: of a single image, or of one per platform.
func (c *Converter) Convert(index ocispec.Index) (ocispec.Descriptor, error) {
	var found []ocispec.Descriptor
	if err := c.manifests(index, 0, &found); err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(found) == 0 {
		return ocispec.Descriptor{}, errors.New("the archive has no image that could be converted")
	}
	for _, d := range found {
		m, err := document[ocispec.Manifest](c, d)
		if err != nil {
			return d, err
		}
		c.all += len(m.Layers)
	}
	out := make([]ocispec.Descriptor, len(found))
	for i, d := range found {
		var err error
		if out[i], err = c.image(d); err != nil {
			return d, fmt.Errorf("the image %s: %w", d.Digest, err)
		}
	}
	if len(out) == 1 {
		return out[0], nil
	}
	return c.write(ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: out})
}

// manifests finds the images of an index that are in the archive. What attests to an image says nothing of another one.
func (c *Converter) manifests(index ocispec.Index, depth int, found *[]ocispec.Descriptor) error {
	if depth > maxNested {
		return fmt.Errorf("the archive has indexes in indexes, deeper than %d", maxNested)
	}
	for _, d := range index.Manifests {
		if _, err := os.Stat(c.path(d.Digest)); err != nil || d.Annotations["vnd.docker.reference.type"] != "" {
			continue // another platform's, which is not here
		}
		switch d.MediaType {
		case ocispec.MediaTypeImageIndex, "application/vnd.docker.distribution.manifest.list.v2+json":
			below, err := document[ocispec.Index](c, d)
			if err == nil {
				err = c.manifests(below, depth+1, found)
			}
			if err != nil {
				return err
			}
		case ocispec.MediaTypeImageManifest, "application/vnd.docker.distribution.manifest.v2+json":
			*found = append(*found, d)
		}
	}
	return nil
}

// image builds one image anew.
func (c *Converter) image(d ocispec.Descriptor) (ocispec.Descriptor, error) {
	m, err := document[ocispec.Manifest](c, d)
	if err != nil {
		return d, err
	}
	raw, err := document[map[string]json.RawMessage](c, m.Config)
	if err != nil {
		return d, err
	}
	config, err := document[ocispec.Image](c, m.Config)
	if err != nil {
		return d, err
	}
	if len(config.RootFS.DiffIDs) != len(m.Layers) {
		return d, fmt.Errorf("it has %d layers, and its configuration %d", len(m.Layers), len(config.RootFS.DiffIDs))
	}
	for i, l := range m.Layers {
		built, ok := c.done[l.Digest]
		if !ok {
			if built, err = c.layer(l); err != nil {
				return d, fmt.Errorf("layer %s: %w", l.Digest, err)
			}
			c.done[l.Digest] = built
		}
		if c.o.Progress != nil {
			c.o.Progress(i+1, c.all, built.desc)
		}
		m.Layers[i], config.RootFS.DiffIDs[i] = built.desc, built.diffID
	}
	rootfs, err := json.Marshal(config.RootFS)
	if err != nil {
		return d, err
	}
	raw["rootfs"] = rootfs // all else stays as it is, also what this program does not know
	if m.Config, err = c.write(ocispec.MediaTypeImageConfig, raw); err != nil {
		return d, err
	}
	m.MediaType, m.SchemaVersion = ocispec.MediaTypeImageManifest, 2
	out, err := c.write(m.MediaType, m)
	p := config.Platform
	out.Platform = &p
	return out, err
}

// layer builds one layer anew.
func (c *Converter) layer(d ocispec.Descriptor) (layer, error) {
	in, err := os.Open(c.path(d.Digest))
	if err != nil {
		return layer{}, fmt.Errorf("it is not in the archive: %w", err)
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return layer{}, err
	}
	missed := []string{}
	b, err := estargz.Build(io.NewSectionReader(in, 0, st.Size()), estargz.WithChunkSize(c.o.ChunkSize), estargz.WithCompressionLevel(c.o.Level),
		estargz.WithPrioritizedFiles(c.o.First), estargz.WithAllowPrioritizeNotFound(&missed),
		estargz.WithGzipHelperFunc(func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }))
	if err != nil {
		return layer{}, err
	}
	f, err := os.CreateTemp(c.dir, "layer-")
	if err != nil {
		return layer{}, errors.Join(err, b.Close())
	}
	hash := digest.SHA256.Digester()
	n, err := io.Copy(io.MultiWriter(f, hash.Hash()), b)
	if err := errors.Join(err, b.Close(), f.Close()); err != nil {
		return layer{}, err
	}
	size, err := b.UncompressedSize()
	if err != nil {
		return layer{}, err
	}
	if err := os.Rename(f.Name(), c.path(hash.Digest())); err != nil {
		return layer{}, err
	}
	c.blobs[hash.Digest()] = true
	c.note(missed)
	return layer{ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayerGzip, Digest: hash.Digest(), Size: n,
		Annotations: map[string]string{
			estargz.TOCJSONDigestAnnotation: b.TOCDigest().String(), estargz.StoreUncompressedSizeAnnotation: fmt.Sprint(size),
		},
	}, b.DiffID()}, nil
}

// note remembers which files a layer had.
func (c *Converter) note(missed []string) {
	lacks := map[string]bool{}
	for _, m := range missed {
		lacks[m] = true
	}
	for _, f := range c.o.First {
		c.found[f] = c.found[f] || !lacks[f]
	}
}

// write makes a document a blob.
func (c *Converter) write(mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	c.blobs[d.Digest] = true
	return d, os.WriteFile(c.path(d.Digest), b, 0o600)
}

// document reads a document of the archive.
func document[T any](c *Converter, d ocispec.Descriptor) (v T, err error) {
	if d.Size > maxDocument {
		return v, fmt.Errorf("%s has %d bytes, more than %d", d.Digest, d.Size, maxDocument)
	}
	b, err := os.ReadFile(c.path(d.Digest))
	if err != nil {
		return v, fmt.Errorf("%s is not in the archive: %w", d.Digest, err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("%s: %w", d.Digest, err)
	}
	return v, nil
}

// Write writes an archive of what Convert gave, under a name with its tag.
func (c *Converter) Write(w io.Writer, d ocispec.Descriptor, name, tag string) error {
	tw := tar.NewWriter(w)
	d.Annotations = map[string]string{"io.containerd.image.name": name, ocispec.AnnotationRefName: tag}
	d.Platform = nil
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{d}}
	for file, v := range map[string]any{ocispec.ImageLayoutFile: ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}, ocispec.ImageIndexFile: index} {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o644, Size: int64(len(b))}); err != nil {
			return err
		}
		if _, err := tw.Write(b); err != nil {
			return err
		}
	}
	for d := range c.blobs {
		if err := c.pack(tw, d); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (c *Converter) pack(tw *tar.Writer, d digest.Digest) error {
	f, err := os.Open(c.path(d))
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "blobs/sha256/" + d.Encoded(), Mode: 0o644, Size: st.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}
