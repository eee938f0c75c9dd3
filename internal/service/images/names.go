package images

import (
	"context"
	"fmt"

	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// parseName makes the canonical name of what a user wrote; repo may hold the tag.
func parseName(repo, tag string) (reference.Named, error) {
	ref := repo
	if tag != "" {
		if d := digest.Digest(tag); d.Validate() == nil {
			return nil, fmt.Errorf("refusing to create a tag with a digest reference: %w", errdefs.ErrInvalidArgument)
		}
		ref += ":" + tag
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, fmt.Errorf("refusing to create a tag with a digest reference: %w", errdefs.ErrInvalidArgument)
	}
	if reference.FamiliarName(named) == "sha256" {
		return nil, fmt.Errorf("refusing to create an ambiguous tag using digest algorithm as name: %w", errdefs.ErrInvalidArgument)
	}
	return reference.TagNameOnly(named), nil
}

func familiar(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(named)
}

// name points name (canonical; empty for none) to target, in one commit, with what follows: the
// former target keeps a dangling name if that was its last. It returns the former target's ID, if another.
func (s *Service) name(ctx context.Context, name string, target ocispec.Descriptor) (moved digest.Digest, err error) {
	s.write.Lock()
	defer s.write.Unlock()
	target.Annotations, target.Platform = nil, nil
	err = s.content.Update(ctx, func(ctx context.Context) error {
		store := s.content.Images()
		dangling := danglingPrefix + target.Digest.String()
		if name == "" {
			if e := s.idx.byExact(target.Digest); e != nil && len(e.names) > 0 {
				return nil
			}
			return create(ctx, store, dangling, target)
		}
		if was := s.idx.byNameExact(name); was != nil && was.target.Digest != target.Digest {
			if len(was.names) == 1 {
				if err := create(ctx, store, danglingPrefix+was.target.Digest.String(), was.target); err != nil {
					return err
				}
			}
			moved = was.target.Digest
		}
		if err := store.Delete(ctx, dangling); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		return create(ctx, store, name, target)
	})
	if err != nil {
		return "", diskFull(err)
	}
	return moved, s.reload(ctx)
}

// create makes or moves a name.
func create(ctx context.Context, store cimages.Store, name string, target ocispec.Descriptor) error {
	i := cimages.Image{Name: name, Target: target}
	_, err := store.Create(ctx, i)
	if errdefs.IsAlreadyExists(err) {
		_, err = store.Update(ctx, i, "target")
	}
	return err
}

func (x *index) byExact(d digest.Digest) *entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byID[d]
}

func (x *index) byNameExact(name string) *entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byName[name]
}

// Tag gives an image a further name.
func (s *Service) Tag(ctx context.Context, ref, repo, tag string) error {
	e, _, err := s.idx.find(ref)
	if err != nil {
		return err
	}
	named, err := parseName(repo, tag)
	if err != nil {
		return err
	}
	if _, err := s.name(ctx, named.String(), e.target); err != nil {
		return err
	}
	s.publish(e.target.Digest, reference.FamiliarString(named), events.ActionTag, e.labels())
	return nil
}

// labels are those of the image's first platform.
func (e *entry) labels() map[string]string {
	for _, m := range e.manifests {
		if m.kind == kindImage {
			return m.image.Config.Labels
		}
	}
	return nil
}
