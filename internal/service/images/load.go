package images

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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

// archive is what was read of an image archive: blobs are in the content store already.
type archive struct {
	layout   *ocispec.ImageLayout
	index    *ocispec.Index
	docker   []dockerImage
	isDocker bool
	blobs    map[string]ocispec.Descriptor
	links    map[string]string
}

// Load reads a docker archive, an OCI layout, or both in one, compressed or not,
// and names its images. wanted limits the platforms; empty means all.
func (s *Service) Load(ctx context.Context, r io.Reader, wanted []ocispec.Platform, out Progress) error {
	held, release, err := s.content.Hold(ctx)
	if err != nil {
		return err
	}
	var done []func()
	err = s.load(held, r, wanted, out, &done)
	release()
	for _, f := range done {
		f()
	}
	if err != nil {
		s.catalog.sweep(ctx)
	}
	return err
}

func (s *Service) load(ctx context.Context, r io.Reader, wanted []ocispec.Platform, out Progress, done *[]func()) error {
	z, err := decompress(bound{ctx, r})
	if err != nil {
		return err
	}
	defer z.Close()
	a, err := s.readArchive(ctx, z, out)
	if err != nil {
		return err
	}
	list, err := s.archiveImages(ctx, a)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("the archive contains no image: %w", errdefs.ErrInvalidArgument)
	}
	// Everything is checked and unpacked before the first name changes.
	for i := range list {
		rel, err := s.admit(ctx, &list[i], wanted)
		if rel != nil {
			*done = append(*done, rel...)
		}
		if err != nil {
			return err
		}
	}
	for _, n := range list {
		moved, err := s.catalog.point(ctx, n.name, n.target)
		if err != nil {
			return err
		}
		id := n.target.Digest.String()
		if moved != "" {
			out.Stream(fmt.Sprintf("The image %s already exists, renaming the old one with ID %s to empty string\n", familiar(n.name), moved))
		}
		if n.name != "" {
			out.Stream("Loaded image: " + familiar(n.name) + "\n")
		} else {
			out.Stream("Loaded image ID: " + id + "\n")
		}
		s.announce.image(events.ActionLoad, n.target.Digest, s.catalog.byExact(n.target.Digest).labels())
	}
	return nil
}

// readArchive takes in all files of the archive; what nothing will lead to is collected with the lease.
func (s *blobs) readArchive(ctx context.Context, r io.Reader, out Progress) (*archive, error) {
	a := &archive{blobs: map[string]ocispec.Descriptor{}, links: map[string]string{}}
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
			if err := s.readFile(ctx, a, name, h.Size, tr, buf, out); err != nil {
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

func archiveError(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the archive is truncated: %w: %w", err, errdefs.ErrInvalidArgument)
	case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong):
		return fmt.Errorf("the archive is not a tar file that can be read: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return err
}

func (s *blobs) readFile(ctx context.Context, a *archive, name string, size int64, r io.Reader, buf []byte, out Progress) error {
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
	d, err := s.ingest(ctx, "load-"+name, out.Layer(name, size, r), expected, buf)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	a.blobs[name] = d
	return nil
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

// archiveImages lists an archive's images. An OCI layout says more than manifest.json and comes first.
func (s *blobs) archiveImages(ctx context.Context, a *archive) ([]named, error) {
	switch {
	case a.layout != nil && a.index != nil:
		if a.layout.Version != ocispec.ImageLayoutVersion {
			return nil, fmt.Errorf("the archive is an OCI layout of version %q, only %s is known: %w", a.layout.Version, ocispec.ImageLayoutVersion, errdefs.ErrInvalidArgument)
		}
		return layoutImages(a.index)
	case a.isDocker:
		return s.dockerImages(ctx, a)
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
func (s *blobs) dockerImages(ctx context.Context, a *archive) ([]named, error) {
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
			if d.MediaType, err = s.layerType(ctx, d); err != nil {
				return nil, err
			}
			m.Layers = append(m.Layers, d)
		}
		target, err := s.writeJSON(ctx, m.MediaType, m, append([]ocispec.Descriptor{config}, m.Layers...)...)
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

// layerType tells a layer's media type by its first bytes.
func (s *blobs) layerType(ctx context.Context, d ocispec.Descriptor) (string, error) {
	ra, err := s.content.Blobs().ReaderAt(ctx, d)
	if err != nil {
		return "", err
	}
	defer ra.Close()
	head := make([]byte, 6)
	n, err := ra.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	switch detect(head[:n]) {
	case gzipped:
		return cimages.MediaTypeDockerSchema2LayerGzip, nil
	case zstandard:
		return cimages.MediaTypeDockerSchema2LayerZstd, nil
	case plain:
		return cimages.MediaTypeDockerSchema2Layer, nil
	}
	return "", fmt.Errorf("layer %s is compressed in a way that is not known: %w", d.Digest, errdefs.ErrInvalidArgument)
}

// admit checks that an image is whole for at least one platform, protects its blobs from collection and unpacks it.
func (s *Service) admit(ctx context.Context, n *named, wanted []ocispec.Platform) (release []func(), err error) {
	e, err := readEntry(ctx, s.content.Blobs(), n.target)
	if err != nil {
		if errdefs.IsNotFound(err) {
			err = fmt.Errorf("the image %s is not whole in the archive: %w: %w", n.target.Digest, err, errdefs.ErrInvalidArgument)
		}
		return nil, err
	}
	if e, err = s.limit(e, wanted); err != nil {
		return nil, err
	}
	n.target = e.target
	if err := s.labelTree(ctx, e); err != nil {
		return nil, err
	}
	unpacked := 0
	for _, m := range e.manifests {
		if m.kind != kindImage || !m.available {
			continue
		}
		unpacked++
		if len(e.manifests) > 1 && len(wanted) == 0 && !s.catalog.host.Match(m.image.Platform) {
			continue // another platform's is unpacked when it is asked for
		}
		rel, err := s.unpack(ctx, m)
		if err != nil {
			return release, fmt.Errorf("unpacking image %s: %w", n.target.Digest, err)
		}
		release = append(release, rel)
	}
	if unpacked == 0 {
		return release, s.incomplete(ctx, e)
	}
	return release, nil
}

// incomplete names the first blob that an image lacks.
func (s *blobs) incomplete(ctx context.Context, e *entry) error {
	for _, m := range e.manifests {
		for _, d := range m.children() {
			if _, err := s.content.Blobs().Info(ctx, d.Digest); errdefs.IsNotFound(err) {
				return fmt.Errorf("the image %s is not whole: %s %s is missing in the archive: %w", e.target.Digest, d.MediaType, d.Digest, errdefs.ErrInvalidArgument)
			}
		}
	}
	return fmt.Errorf("%s is no image that can be run: %w", e.target.Digest, errdefs.ErrInvalidArgument)
}

// limit reduces an image to the platforms asked for.
func (s *Service) limit(e *entry, wanted []ocispec.Platform) (*entry, error) {
	for _, p := range wanted {
		match := platforms.OnlyStrict(platforms.Normalize(p))
		found := false
		for _, m := range e.manifests {
			found = found || m.kind == kindImage && m.available && match.Match(m.image.Platform)
		}
		if !found {
			return nil, fmt.Errorf("the image %s in the archive does not provide the platform %s: %w", e.target.Digest, platforms.FormatAll(p), errdefs.ErrNotFound)
		}
	}
	return e, nil
}

// labelTree makes an index hold its manifests, and these their blobs.
func (s *blobs) labelTree(ctx context.Context, e *entry) error {
	var children []ocispec.Descriptor
	for _, m := range e.manifests {
		if m.config.Digest == "" {
			continue // not here
		}
		children = append(children, m.desc)
		if err := s.label(ctx, m.desc.Digest, m.children()); err != nil {
			return err
		}
	}
	if cimages.IsIndexType(e.target.MediaType) {
		return s.label(ctx, e.target.Digest, children)
	}
	return nil
}
