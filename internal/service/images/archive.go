package images

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/images/trust"
)

// Limits of an archive's own files.
const (
	maxArchiveJSON  = 16 << 20 // manifest.json, index.json: bytes
	maxArchiveFiles = 100_000
	maxImages       = 10_000
)

// dockerImage is one image in manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// named is an image found in an archive; name is canonical or empty.
type named struct {
	target ocispec.Descriptor
	name   string
}

// archive is an image archive that is being read: a docker archive, an OCI layout, or both
// in one. Its blobs go to the store at once, its own files stay here until its end.
type archive struct {
	store  *blobs
	layers *unloading
	out    Progress

	layout   *ocispec.ImageLayout
	index    *ocispec.Index
	docker   []dockerImage
	isDocker bool
	blobs    map[string]ocispec.Descriptor
	links    map[string]string
}

// readArchive takes in all files of the archive; what nothing will lead to is collected with the lease.
func readArchive(ctx context.Context, layers *unloading, r io.Reader, out Progress) (*archive, error) {
	a := &archive{store: layers.store, layers: layers, out: out, blobs: map[string]ocispec.Descriptor{}, links: map[string]string{}}
	tr := tar.NewReader(r)
	buf := make([]byte, 256<<10)
	for files := 0; ; files++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, archiveError(err)
		}
		if files >= maxArchiveFiles {
			return nil, fmt.Errorf("the archive has more than %d files: %w", maxArchiveFiles, errdefs.ErrInvalidArgument)
		}
		name := path.Clean("/" + h.Name)[1:]
		switch h.Typeflag {
		case tar.TypeReg:
			if err := a.readFile(ctx, name, h.Size, tr, buf); err != nil {
				return nil, archiveError(err)
			}
		case tar.TypeSymlink:
			a.links[name] = path.Join("/", path.Dir(name), h.Linkname)[1:]
		case tar.TypeLink:
			a.links[name] = path.Clean("/" + h.Linkname)[1:]
		}
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf) // a compressed stream's checksum is at its end
	return a, archiveError(err)
}

// archiveError tells what is wrong with an archive that cannot be read.
func archiveError(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the archive is truncated: %w: %w", err, errdefs.ErrInvalidArgument)
	case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong):
		return fmt.Errorf("the archive is not a tar file that can be read: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return err
}

// readFile takes in one file: a blob, unless the name says otherwise.
func (a *archive) readFile(ctx context.Context, name string, size int64, r io.Reader, buf []byte) error {
	switch name {
	case ocispec.ImageLayoutFile:
		return decodeFile(name, r, size, &a.layout)
	case ocispec.ImageIndexFile:
		return decodeFile(name, r, size, &a.index)
	case "manifest.json":
		a.isDocker = true
		return decodeFile(name, r, size, &a.docker)
	case "repositories":
		return nil
	}
	base := path.Base(name)
	if path.Dir(name) != "." && !strings.HasPrefix(name, "blobs/") && (base == "json" || base == "VERSION") {
		return nil // of archives from before 2016
	}
	var expected digest.Digest
	if hex, ok := strings.CutPrefix(name, "blobs/sha256/"); ok {
		expected = digest.NewDigestFromEncoded(digest.SHA256, hex)
		if err := expected.Validate(); err != nil {
			return fmt.Errorf("the archive's file %q is not named by a digest: %w", name, errdefs.ErrInvalidArgument)
		}
	}
	d, err := a.readBlob(ctx, name, bufio.NewReaderSize(a.out.Layer(name, size, r), tarMagic+tarMagic), expected, buf)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	a.blobs[name] = d
	return nil
}

// readBlob takes in a layer, or another blob.
func (a *archive) readBlob(ctx context.Context, name string, r *bufio.Reader, expected digest.Digest, buf []byte) (ocispec.Descriptor, error) {
	head, err := r.Peek(tarMagic + tarMagic)
	if err != nil && !errors.Is(err, io.EOF) {
		return ocispec.Descriptor{}, err
	}
	known := false
	if expected != "" {
		_, err := a.store.content.Blobs().Info(ctx, expected)
		known = err == nil
	}
	if known || !isLayer(head) {
		return a.store.ingest(ctx, "load-"+name, r, expected, buf)
	}
	return a.layers.take(name, r, expected, buf)
}

func decodeFile(name string, r io.Reader, size int64, v any) error {
	if size > maxArchiveJSON {
		return fmt.Errorf("the archive's %s has %d bytes, more than %d: %w", name, size, maxArchiveJSON, errdefs.ErrInvalidArgument)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("the archive's %s is not the JSON it should be: %w: %w", name, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// images lists the archive's images. An OCI layout says more than manifest.json and comes first.
func (a *archive) images(ctx context.Context) ([]named, error) {
	switch {
	case a.layout != nil && a.index != nil:
		if a.layout.Version != ocispec.ImageLayoutVersion {
			return nil, fmt.Errorf("the archive is an OCI layout of version %q, only %s is known: %w", a.layout.Version, ocispec.ImageLayoutVersion, errdefs.ErrInvalidArgument)
		}
		return layoutImages(a.index)
	case a.isDocker:
		return a.dockerImages(ctx)
	}
	return nil, fmt.Errorf("the archive is neither made by docker save (manifest.json) nor an OCI layout (oci-layout, index.json); a root file system is imported with docker import; or the archive is truncated: %w", errdefs.ErrInvalidArgument)
}

func layoutImages(idx *ocispec.Index) ([]named, error) {
	if len(idx.Manifests) > maxImages {
		return nil, fmt.Errorf("the archive's index.json has %d images, more than %d: %w", len(idx.Manifests), maxImages, errdefs.ErrInvalidArgument)
	}
	var list []named
	for _, d := range idx.Manifests {
		if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != digest.SHA256 {
			return nil, fmt.Errorf("the archive's index.json has the digest %q: %w", d.Digest, errdefs.ErrInvalidArgument)
		}
		if trust.IsSignature(d) {
			continue
		}
		if !cimages.IsIndexType(d.MediaType) && !cimages.IsManifestType(d.MediaType) {
			return nil, fmt.Errorf("the archive's index.json has an image of the unknown type %q: %w", d.MediaType, errdefs.ErrInvalidArgument)
		}
		list = append(list, named{target: d, name: layoutName(d.Annotations)})
	}
	return list, nil
}

// layoutName is the name that an OCI layout gives an image, or "": many tools write only a tag.
func layoutName(annotations map[string]string) string {
	for _, key := range []string{cimages.AnnotationImageName, ocispec.AnnotationRefName} {
		v := annotations[key]
		if v == "" || key == ocispec.AnnotationRefName && !strings.ContainsAny(v, "/:") {
			continue
		}
		if n, err := reference.ParseNormalizedNamed(v); err == nil {
			if _, digested := n.(reference.Digested); !digested {
				return reference.TagNameOnly(n).String()
			}
		}
	}
	return ""
}

// dockerImages makes a manifest for every image of manifest.json, byte for byte as containerd's importer does.
func (a *archive) dockerImages(ctx context.Context) ([]named, error) {
	if len(a.docker) > maxImages {
		return nil, fmt.Errorf("the archive's manifest.json has %d images, more than %d: %w", len(a.docker), maxImages, errdefs.ErrInvalidArgument)
	}
	var list []named
	for _, i := range a.docker {
		config, err := a.find(i.Config, "configuration")
		if err != nil {
			return nil, err
		}
		if hex, ok := strings.CutSuffix(path.Base(i.Config), ".json"); ok && len(hex) == 64 && config.Digest.Encoded() != hex {
			return nil, mismatch(i.Config, digest.NewDigestFromEncoded(digest.SHA256, hex), config.Digest)
		}
		config.MediaType = cimages.MediaTypeDockerSchema2Config
		m := struct {
			specs.Versioned
			MediaType string               `json:"mediaType"`
			Config    ocispec.Descriptor   `json:"config"`
			Layers    []ocispec.Descriptor `json:"layers"`
		}{specs.Versioned{SchemaVersion: 2}, cimages.MediaTypeDockerSchema2Manifest, config, []ocispec.Descriptor{}}
		for _, l := range i.Layers {
			d, err := a.find(l, "layer")
			if err != nil {
				return nil, err
			}
			if d.MediaType, err = a.store.layerType(ctx, d); err != nil {
				return nil, err
			}
			m.Layers = append(m.Layers, d)
		}
		target, err := a.store.writeJSON(ctx, m.MediaType, m, append([]ocispec.Descriptor{config}, m.Layers...)...)
		if err != nil {
			return nil, err
		}
		if len(i.RepoTags) == 0 {
			list = append(list, named{target: target})
		}
		for _, t := range i.RepoTags {
			n, err := parseName(t, "")
			if err != nil {
				return nil, fmt.Errorf("the archive's manifest.json has the name %q: %w", t, err)
			}
			list = append(list, named{target, n.String()})
		}
	}
	return list, nil
}

// find looks up a file of the archive, through links.
func (a *archive) find(name, what string) (ocispec.Descriptor, error) {
	p := path.Clean("/" + name)[1:]
	for range 10 {
		if d, ok := a.blobs[p]; ok {
			return d, nil
		}
		to, ok := a.links[p]
		if !ok {
			break
		}
		p = to
	}
	return ocispec.Descriptor{}, fmt.Errorf("the archive's manifest.json names the %s %q, which is not in the archive: %w", what, name, errdefs.ErrInvalidArgument)
}
