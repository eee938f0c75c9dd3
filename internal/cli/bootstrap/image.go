package bootstrap

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/cli/ref"
)

// epochVariable says which time reproducible output has.
const epochVariable = "SOURCE_DATE_EPOCH"

// Labels of an image made here.
const (
	LabelDistribution = "io.gantry.bootstrap.distribution"
	LabelSuite        = "io.gantry.bootstrap.suite"
	LabelVariant      = "io.gantry.bootstrap.variant"
	LabelComponents   = "io.gantry.bootstrap.components"
	LabelDigest       = "io.gantry.bootstrap.packages.digest" // of the list
)

// AnnotationPackages lists, in the manifest, every package with its version. As a label every container would inherit it.
const AnnotationPackages = "io.gantry.bootstrap.packages"

// Epoch is the image's time: SOURCE_DATE_EPOCH where it is set, else that of the newest package.
func Epoch(s *Survey, env func(string) string) (time.Time, error) {
	v := env(epochVariable)
	if v == "" {
		return s.Epoch.UTC(), nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, fmt.Errorf("invalid %s %q: must be a number of seconds since 1970", epochVariable, v)
	}
	return time.Unix(n, 0).UTC(), nil
}

// Image is an image of one layer, ready to be written.
type Image struct {
	Name     ref.Ref
	Manifest ocispec.Descriptor
	config   []byte
	manifest []byte
	layer    *os.File
	desc     ocispec.Descriptor // of the layer
	epoch    time.Time
}

// Blank describes the image, without its layer.
func (r *Request) Blank(s *Survey, epoch time.Time) ocispec.Image {
	arch, variant := goArch(r.Arch)
	labels := map[string]string{LabelDistribution: r.Distribution, LabelSuite: r.Suite, LabelVariant: r.Variant, LabelComponents: strings.Join(r.Components, " "), LabelDigest: s.Digest().String()}
	if v := s.Release["VERSION_ID"]; v != "" {
		labels[ocispec.AnnotationVersion] = v
	}
	shell := "/bin/sh"
	if s.has("bin/bash") || s.has("usr/bin/bash") {
		shell = "bash"
	}
	return ocispec.Image{
		Created: &epoch, Platform: ocispec.Platform{OS: "linux", Architecture: arch, Variant: variant},
		Config:  ocispec.ImageConfig{Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, Cmd: []string{shell}, Labels: labels},
		History: []ocispec.History{{Created: &epoch, CreatedBy: fmt.Sprintf("gantry image bootstrap --variant %s --arch %s %s:%s # packages %s", r.Variant, r.Arch, r.Distribution, r.Suite, s.Digest())}},
	}
}

// Compose makes the image of its description, the list of its packages and its layer, a file with a tar archive.
func Compose(name ref.Ref, img ocispec.Image, packages string, layer *os.File) (*Image, error) {
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	hash := digest.SHA256.Digester()
	size, err := io.Copy(hash.Hash(), layer)
	if err != nil {
		return nil, err
	}
	i := &Image{Name: name, layer: layer, epoch: *img.Created, desc: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: hash.Digest(), Size: size}}
	img.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{i.desc.Digest}}
	if i.config, err = json.Marshal(img); err != nil {
		return nil, err
	}
	i.manifest, err = json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: describe(ocispec.MediaTypeImageConfig, i.config), Layers: []ocispec.Descriptor{i.desc}, Annotations: map[string]string{AnnotationPackages: packages}})
	i.Manifest = describe(ocispec.MediaTypeImageManifest, i.manifest)
	i.Manifest.Platform = &img.Platform
	return i, err
}

func describe(media string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: media, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

// Write writes the image as an archive: an OCI layout that is a docker archive too.
func (i *Image) Write(w io.Writer) error {
	tw := tar.NewWriter(w)
	target := i.Manifest
	target.Annotations = map[string]string{"io.containerd.image.name": i.Name.String(), ocispec.AnnotationRefName: i.Name.Tag}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{target}})
	if err != nil {
		return err
	}
	config := digest.FromBytes(i.config)
	legacy, err := json.Marshal([]map[string]any{{"Config": blob(config), "RepoTags": []string{i.Name.Familiar()}, "Layers": []string{blob(i.desc.Digest)}}})
	if err != nil {
		return err
	}
	if _, err := i.layer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for _, m := range []struct {
		name string
		data []byte
	}{{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"blobs/", nil}, {"blobs/sha256/", nil}, {blob(config), i.config}, {blob(i.Manifest.Digest), i.manifest},
		{blob(i.desc.Digest), nil}, {"index.json", index}, {"manifest.json", legacy}} {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: m.name, Mode: 0o644, Size: int64(len(m.data)), ModTime: i.epoch}
		switch {
		case m.name[len(m.name)-1] == '/':
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case m.data == nil:
			h.Size = i.desc.Size
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if m.data != nil {
			_, err = tw.Write(m.data)
		} else if h.Size > 0 {
			_, err = io.Copy(tw, i.layer)
		}
		if err != nil {
			return err
		}
	}
	return tw.Close()
}

func blob(d digest.Digest) string { return "blobs/" + d.Algorithm().String() + "/" + d.Encoded() }
