package images

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/images/recall"
)

// saver writes images to archives.
type saver struct {
	catalog  *catalog
	store    *blobs
	sentry   *sentry
	announce announcer
}

// saving is an archive that is being put together.
type saving struct {
	catalog *catalog
	store   *blobs
	open    map[digest.Digest]content.ReaderAt // those that had to be made
	done    []func()
	blobs   map[digest.Digest]ocispec.Descriptor
	index   ocispec.Index
	docker  []*dockerImage
	repos   map[string]map[string]string
	byID    map[digest.Digest]*dockerImage
	ids     []digest.Digest
}

// Save prepares an archive of images: an OCI layout that is a docker archive as
// well. Errors of what was asked for come before the first byte; write then streams it.
func (s *saver) Save(ctx context.Context, refs []string, wanted []ocispec.Platform) (write func(w io.Writer) error, err error) {
	if len(refs) == 0 {
		return nil, fmt.Errorf("no image to save was named: %w", errdefs.ErrInvalidArgument)
	}
	held, release, err := s.store.content.Hold(ctx)
	if err != nil {
		return nil, err
	}
	a := &saving{
		catalog: s.catalog, store: s.store, open: map[digest.Digest]content.ReaderAt{}, done: []func(){release},
		blobs: map[digest.Digest]ocispec.Descriptor{}, repos: map[string]map[string]string{}, byID: map[digest.Digest]*dockerImage{},
		index: ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}},
	}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	for _, ref := range refs {
		if err := s.add(held, a, ref, wanted); err != nil {
			return nil, err
		}
	}
	for _, d := range a.blobs { // held: a deletion meanwhile does not break the archive
		i, err := s.store.content.Blobs().Info(held, d.Digest)
		if err == nil {
			err = s.store.keep(held, i)
		}
		if err != nil {
			return nil, fmt.Errorf("the image's content is not complete, %s is missing: %w", d.Digest, s.catalog.lazy.notWhole(d.Digest, err))
		}
	}
	return func(w io.Writer) error {
		defer a.close()
		err := a.write(held, s.store.content.Blobs(), w)
		if err == nil {
			for _, id := range a.ids {
				s.announce.image(events.ActionSave, id, nil)
			}
		}
		return err
	}, nil
}

// add puts what was asked for into the archive.
func (s *saver) add(ctx context.Context, a *saving, ref string, wanted []ocispec.Platform) error {
	e, first, err := s.catalog.lookUp(ref, nil)
	if err != nil {
		return err
	}
	target := e.target
	chosen := e.manifests
	if len(wanted) > 0 {
		chosen = nil
		for _, p := range wanted {
			m, err := s.catalog.host.choose(e, ref, &p)
			if err != nil {
				return err
			}
			chosen = append(chosen, m)
		}
		first = chosen[0]
		if len(chosen) == 1 {
			target = first.desc
			p := platforms.Normalize(first.image.Platform)
			target.Platform = &p
		}
	}
	if target, chosen, first, err = a.prepare(ctx, target, chosen, first); err != nil {
		return err
	}
	a.blobs[target.Digest] = target
	s.sentry.pack(context.Background(), a, &target)
	for _, m := range chosen {
		if m.available {
			for _, d := range append([]ocispec.Descriptor{m.desc}, m.children()...) {
				a.blobs[d.Digest] = d
			}
		}
	}
	a.ids = append(a.ids, e.target.Digest)
	a.name(target, first, savedNames(e, ref))
	return nil
}

// close gives back what is in use.
func (a *saving) close() {
	for _, ra := range a.open {
		_ = ra.Close()
	}
	for _, f := range a.done {
		f()
	}
}

// prepare sees to it that all blobs can be read, and stay. What is not to be had any more as it came is saved
// uncompressed, with another manifest, and another index above it.
func (a *saving) prepare(ctx context.Context, target ocispec.Descriptor, chosen []*manifest, first *manifest) (ocispec.Descriptor, []*manifest, *manifest, error) {
	chosen = slices.Clone(chosen)
	changed := map[digest.Digest]ocispec.Descriptor{}
	for i, m := range chosen {
		if !m.available {
			continue
		}
		a.done = append(a.done, a.catalog.use(ctx, m))
		open, plain, err := a.store.readable(ctx, m, func(l ocispec.Descriptor, _ recall.Recipe) bool { return a.open[l.Digest] != nil })
		maps.Copy(a.open, open)
		if err != nil {
			return target, chosen, first, err
		}
		if plain == nil {
			continue
		}
		if len(changed) == 0 {
			a.done = append(a.done, func() { a.catalog.sweep(ctx) })
		}
		changed[m.desc.Digest] = plain.desc
		chosen[i] = plain
		if first == m {
			first = plain
		}
		if target.Digest == m.desc.Digest {
			platform := target.Platform
			target = plain.desc
			target.Platform = platform
		}
	}
	if len(changed) == 0 || !cimages.IsIndexType(target.MediaType) {
		return target, chosen, first, nil
	}
	var err error
	target, err = a.store.restateIndex(ctx, target, changed)
	return target, chosen, first, err
}

// savedNames are the names that go with what was asked for: of an ID none, of a repository without tag latest.
func savedNames(e *entry, ref string) []reference.NamedTagged {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil
	}
	if t, ok := reference.TagNameOnly(named).(reference.NamedTagged); ok && slices.Contains(e.names, t.String()) {
		return []reference.NamedTagged{t}
	}
	return nil
}

// name enters an image, with its names if it has any, into the archive's own files.
func (a *saving) name(target ocispec.Descriptor, m *manifest, names []reference.NamedTagged) {
	d := a.byID[m.desc.Digest]
	if d == nil {
		d = &dockerImage{Config: blobPath(m.config.Digest), Layers: []string{}}
		for _, l := range m.layers {
			d.Layers = append(d.Layers, blobPath(l.Digest))
		}
		a.byID[m.desc.Digest] = d
		a.docker = append(a.docker, d)
	}
	if len(names) == 0 {
		a.index.Manifests = append(a.index.Manifests, target)
	}
	for _, n := range names {
		t := target
		t.Annotations = map[string]string{cimages.AnnotationImageName: n.String(), ocispec.AnnotationRefName: n.Tag()}
		maps.Copy(t.Annotations, target.Annotations)
		a.index.Manifests = append(a.index.Manifests, t)
		d.RepoTags = append(d.RepoTags, reference.FamiliarString(n))
		repo := reference.FamiliarName(n)
		if a.repos[repo] == nil {
			a.repos[repo] = map[string]string{}
		}
		last := m.config.Digest
		if len(m.layers) > 0 {
			last = m.layers[len(m.layers)-1].Digest
		}
		a.repos[repo][n.Tag()] = last.Encoded()
	}
}

func blobPath(d digest.Digest) string { return path.Join("blobs", d.Algorithm().String(), d.Encoded()) }

// write streams the archive: the blobs of the images first, then what names them.
func (a *saving) write(ctx context.Context, blobs content.Provider, w io.Writer) error {
	b := bufio.NewWriterSize(w, 128<<10)
	tw := tar.NewWriter(b)
	header := func(name string, size int64) error {
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o444, ModTime: time.Unix(0, 0)})
	}
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
	}
	buf := make([]byte, 256<<10)
	for _, d := range slices.Sorted(maps.Keys(a.blobs)) {
		if err := a.writeBlob(ctx, blobs, a.blobs[d], tw, header, buf); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name string
		v    any
	}{
		{ocispec.ImageIndexFile, a.index}, {"manifest.json", a.docker},
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}}, {"repositories", a.repos},
	} {
		if f.name == "repositories" && len(a.repos) == 0 {
			continue
		}
		data, err := json.Marshal(f.v)
		if err != nil {
			return err
		}
		if err := header(f.name, int64(len(data))); err != nil {
			return err
		}
		if _, err := tw.Write(data); err != nil {
			return err
		}
	}
	return errors.Join(tw.Close(), b.Flush())
}

func (a *saving) writeBlob(ctx context.Context, blobs content.Provider, d ocispec.Descriptor, tw *tar.Writer, header func(string, int64) error, buf []byte) error {
	ra := a.open[d.Digest]
	if ra == nil {
		var err error
		if ra, err = blobs.ReaderAt(ctx, d); err != nil {
			return err
		}
		defer ra.Close()
	}
	if err := header(blobPath(d.Digest), ra.Size()); err != nil {
		return err
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{tw}, bound{ctx, content.NewReader(ra)}, buf)
	return err
}
