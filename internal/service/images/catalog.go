package images

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// danglingPrefix begins the names of images without a name of their own.
const danglingPrefix = "gantry-dangling@"

func danglingName(id digest.Digest) string { return danglingPrefix + id.String() }

// catalog is which images there are: the names in the content store, and the index of
// them in memory, which follows every change.
type catalog struct {
	index
	content Content
	layers  Layers
	lazy    lazily
	recall  Recall
	host    host
	log     *slog.Logger

	uses    *lastUse
	changed func() // told when a name has come; may be nil

	sweeps atomic.Int64 // how often what is unused was collected

	write sync.Mutex // held while names change, by who decides on the change
}

// lookUp finds what a user wrote, and its manifest for a platform (nil for the host's).
func (c *catalog) lookUp(ref string, platform *ocispec.Platform) (*entry, *manifest, error) {
	e, _, err := c.find(ref)
	if err != nil {
		return nil, nil, err
	}
	m, err := c.host.choose(e, ref, platform)
	return e, m, err
}

// platformOf is the manifest with this digest, or nil.
func (c *catalog) platformOf(d digest.Digest) *manifest {
	e := c.byDigest(d)
	if e == nil {
		return nil
	}
	for _, m := range e.manifests {
		if m.desc.Digest == d {
			return m
		}
	}
	return nil
}

// reload reads the names again; what was parsed before is taken over.
func (c *catalog) reload(ctx context.Context) error {
	ctx = c.content.Context(ctx)
	list, err := c.content.Images().List(ctx)
	if err != nil {
		return err
	}
	byID := map[digest.Digest]*entry{}
	for _, i := range list {
		e := byID[i.Target.Digest]
		if e == nil {
			i.Target.Annotations = nil
			if e, err = c.entry(ctx, i.Target); err != nil {
				c.log.Error("an image cannot be read and is left out", "name", i.Name, "error", err)
				continue
			}
			byID[i.Target.Digest] = e
		}
		if !strings.HasPrefix(i.Name, danglingPrefix) {
			e.names = append(e.names, i.Name)
			if d := i.Labels[pushedLabel]; d != "" {
				if e.pushed == nil {
					e.pushed = map[string]digest.Digest{}
				}
				e.pushed[i.Name] = digest.Digest(d)
			}
		}
		if i.UpdatedAt.After(e.tagged) {
			e.tagged = i.UpdatedAt
		}
	}
	c.replace(byID)
	return nil
}

// entry is what target describes, without names: as parsed before, if nothing was missing then.
func (c *catalog) entry(ctx context.Context, target ocispec.Descriptor) (*entry, error) {
	if was := c.byExact(target.Digest); was != nil && was.whole() {
		return &entry{target: target, manifests: was.manifests, content: was.content}, nil
	}
	return readEntry(ctx, present{c.content.Blobs(), c.lazy}, target)
}

// point points name (canonical; empty for none) to target, in one commit, with what follows: the
// former target keeps a dangling name if that was its last. It returns the former target's ID, if another.
func (c *catalog) point(ctx context.Context, name string, target ocispec.Descriptor) (moved digest.Digest, err error) {
	c.write.Lock()
	defer c.write.Unlock()
	target.Annotations, target.Platform = nil, nil
	err = c.content.Update(ctx, func(ctx context.Context) error {
		store := c.content.Images()
		dangling := danglingName(target.Digest)
		if name == "" {
			if e := c.byExact(target.Digest); e != nil && len(e.names) > 0 {
				return nil
			}
			return put(ctx, store, dangling, target)
		}
		if was := c.byNameExact(name); was != nil && was.target.Digest != target.Digest {
			if len(was.names) == 1 {
				if err := put(ctx, store, danglingName(was.target.Digest), was.target); err != nil {
					return err
				}
			}
			moved = was.target.Digest
		}
		if err := remove(ctx, store, dangling); err != nil {
			return err
		}
		return put(ctx, store, name, target)
	})
	if err != nil {
		return "", diskFull(err)
	}
	err = c.reload(ctx)
	c.uses.touch(target.Digest)
	if c.changed != nil {
		c.changed()
	}
	c.offer(ctx, c.byExact(target.Digest))
	return moved, err
}

// drop removes names in one commit; without delete, an image without further names gets a dangling one.
// The caller holds write: it has looked at the names to decide.
func (c *catalog) drop(ctx context.Context, e *entry, gone []string, others, delete bool) error {
	err := c.content.Update(ctx, func(ctx context.Context) error {
		store := c.content.Images()
		names := gone
		dangling := danglingName(e.target.Digest)
		if delete {
			names = append(slices.Clone(gone), dangling)
		}
		for _, n := range names {
			if err := remove(ctx, store, n); err != nil {
				return err
			}
		}
		if !delete && !others {
			return put(ctx, store, dangling, e.target)
		}
		return nil
	})
	return errors.Join(diskFull(err), c.reload(ctx))
}

// pushedLabel says, at a name, by which digest a registry has what was pushed under it, if that is not the target's.
const pushedLabel = "gantry.dev/pushed"

// sent records what a registry has under a name now, unless the name has moved meanwhile.
func (c *catalog) sent(ctx context.Context, name string, target ocispec.Descriptor, d digest.Digest) error {
	c.write.Lock()
	defer c.write.Unlock()
	e := c.byNameExact(name)
	if e == nil || e.target.Digest != target.Digest || cmp.Or(e.pushed[name], target.Digest) == d {
		return nil
	}
	i := cimages.Image{Name: name, Target: e.target}
	if d != target.Digest {
		i.Labels = map[string]string{pushedLabel: d.String()}
	}
	_, err := c.content.Images().Update(c.content.Context(ctx), i, "labels")
	return errors.Join(diskFull(err), c.reload(ctx))
}

// put makes or moves a name. What is known of it stays if it leads there already.
func put(ctx context.Context, store cimages.Store, name string, target ocispec.Descriptor) error {
	i := cimages.Image{Name: name, Target: target}
	_, err := store.Create(ctx, i)
	if !errdefs.IsAlreadyExists(err) {
		return err
	}
	was, err := store.Get(ctx, name)
	if err != nil {
		return err
	}
	i.Labels = was.Labels
	if was.Target.Digest != target.Digest {
		i.Labels = nil
	}
	_, err = store.Update(ctx, i, "target", "labels")
	return err
}

// remove takes a name away; that it is not there is as good.
func remove(ctx context.Context, store cimages.Store, name string) error {
	if err := store.Delete(ctx, name); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// sweep deletes blobs and layers that no image leads to. A failure is logged: it costs disk space, nothing else.
// Names do not change meanwhile: an image that is being made is either held (leases, Unpack's release) or in the index.
func (c *catalog) sweep(ctx context.Context) {
	c.write.Lock()
	defer c.write.Unlock()
	c.sweeps.Add(1)
	ctx = context.WithoutCancel(ctx)
	_, err := c.layers.Collect(ctx, c.chains())
	failpoint.Hit("gantryd.gc-layers")
	if err = errors.Join(err, c.content.Collect(ctx)); err != nil {
		c.log.Error("collecting what no image uses", "error", err)
	}
	failpoint.Hit("gantryd.gc-blobs")
}
