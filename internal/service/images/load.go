package images

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// loader takes in images from archives.
type loader struct {
	catalog  *catalog
	store    *blobs
	sentry   *sentry
	announce announcer
}

// Load reads a docker archive, an OCI layout, or both in one, compressed or not,
// and names its images. wanted limits the platforms; empty means all.
func (l *loader) Load(ctx context.Context, r io.Reader, wanted []ocispec.Platform, out Progress) error {
	held, release, err := l.store.content.Hold(ctx)
	if err != nil {
		return err
	}
	var done []func()
	err = l.load(held, r, wanted, out, &done)
	release()
	for _, f := range done {
		f()
	}
	if err != nil {
		l.catalog.sweep(ctx)
	}
	return err
}

func (l *loader) load(ctx context.Context, r io.Reader, wanted []ocispec.Platform, out Progress, done *[]func()) error {
	z, err := decompress(bound{ctx, r})
	if err != nil {
		return err
	}
	defer z.Close()
	layers := newUnloading(ctx, l.store)
	defer layers.close()
	a, err := readArchive(ctx, layers, z, out)
	if err != nil {
		return err
	}
	failpoint.Hit("gantryd.load-read")
	if err := layers.adopt(ctx); err != nil {
		return err
	}
	failpoint.Hit("gantryd.load-adopted")
	list, err := a.images(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("the archive contains no image: %w", errdefs.ErrInvalidArgument)
	}
	// Everything is checked and unpacked before the first name changes.
	labels := map[digest.Digest]map[string]string{}
	staged := layers.unpacked()
	for _, n := range list {
		e, rel, err := l.admit(ctx, n.target, wanted, staged)
		*done = append(*done, rel...)
		if err != nil {
			return err
		}
		labels[n.target.Digest] = e.labels()
		if err := l.trusted(ctx, n, a.signatures()); err != nil {
			return err
		}
	}
	failpoint.Hit("gantryd.load-unpacked")
	for _, n := range list {
		moved, err := l.catalog.point(ctx, n.name, n.target)
		if err != nil {
			return err
		}
		failpoint.Hit("gantryd.load-named")
		id := n.target.Digest.String()
		if moved != "" {
			out.Stream(fmt.Sprintf("The image %s already exists, renaming the old one with ID %s to empty string\n", familiar(n.name), moved))
		}
		if n.name != "" {
			out.Stream("Loaded image: " + familiar(n.name) + "\n")
		} else {
			out.Stream("Loaded image ID: " + id + "\n")
		}
		l.announce.image(events.ActionLoad, n.target.Digest, labels[n.target.Digest])
	}
	return nil
}

// trusted tells whether an image of the archive may have its name, by the signatures that came with it or are to be had.
func (l *loader) trusted(ctx context.Context, n named, signatures []digest.Digest) error {
	if err := l.sentry.unpackInto(ctx, n.target.Digest, signatures); err != nil || n.name == "" {
		return err
	}
	name, err := reference.ParseNormalizedNamed(n.name)
	if err != nil {
		return err
	}
	return l.sentry.admit(ctx, name, n.target)
}

// admit checks that an image is whole for at least one platform, protects its blobs from collection and unpacks it.
// It gives back what is in use then, also when it fails.
func (l *loader) admit(ctx context.Context, target ocispec.Descriptor, wanted []ocispec.Platform, staged map[digest.Digest]Staged) (e *entry, release []func(), err error) {
	e, err = readEntry(ctx, l.store.content.Blobs(), target)
	if err != nil {
		if errdefs.IsNotFound(err) {
			err = fmt.Errorf("the image %s is not whole in the archive: %w: %w", target.Digest, err, errdefs.ErrInvalidArgument)
		}
		return nil, nil, err
	}
	if err := e.provides(wanted); err != nil {
		return nil, nil, err
	}
	if err := l.store.labelTree(ctx, e); err != nil {
		return nil, nil, err
	}
	unpacked := 0
	for _, m := range e.manifests {
		if m.kind != kindImage || !m.available {
			continue
		}
		unpacked++
		if len(e.manifests) > 1 && len(wanted) == 0 && !l.catalog.host.Match(m.image.Platform) {
			continue // another platform's is unpacked when it is asked for
		}
		rel, err := l.store.unpack(ctx, m, staged)
		if err != nil {
			return nil, release, fmt.Errorf("unpacking image %s: %w", target.Digest, err)
		}
		release = append(release, rel)
	}
	if unpacked == 0 {
		return nil, release, l.store.incomplete(ctx, e)
	}
	return e, release, nil
}
