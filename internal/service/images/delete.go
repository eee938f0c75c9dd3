package images

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/filters"
)

// DeleteOptions are the query parameters of DELETE /images/{name}.
type DeleteOptions struct {
	Force     bool
	Platforms []ocispec.Platform
}

func conflict(format string, args ...any) error {
	return fmt.Errorf("conflict: "+format+"%w", append(args, quiet{errdefs.ErrConflict})...)
}

func short(id string) string {
	if d := digest.Digest(id); d.Validate() == nil {
		id = d.Encoded()
	}
	return id[:min(12, len(id))]
}

// Delete removes a name, and the image with its last one; or, by ID, the image with all its names.
func (s *Service) Delete(ctx context.Context, ref string, o DeleteOptions) ([]image.DeleteResponse, error) {
	if len(o.Platforms) > 0 {
		return nil, fmt.Errorf("deleting single platforms of an image is not implemented yet: %w", errdefs.ErrNotImplemented)
	}
	uses := s.users.all(ctx) // before the lock: it asks another service
	out, err := s.untag(ctx, ref, o.Force, uses)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(out, func(r image.DeleteResponse) bool { return r.Deleted != "" }) {
		s.catalog.sweep(ctx)
	}
	return out, nil
}

func (s *Service) untag(ctx context.Context, ref string, force bool, uses []ContainerUse) (out []image.DeleteResponse, err error) {
	s.catalog.write.Lock()
	defer s.catalog.write.Unlock()
	e, found, err := s.catalog.find(ref)
	if err != nil {
		return nil, err
	}
	var user *ContainerUse
	for i := range uses {
		if uses[i].Image == e.target.Digest && (user == nil || uses[i].Running) {
			user = &uses[i]
		}
	}
	name := ""
	if named, err := reference.ParseNormalizedNamed(found); err == nil && slices.Contains(e.names, named.String()) {
		name = named.String()
	}
	var gone, kept []string
	delete := true
	if name != "" {
		if len(e.names) == 1 && user != nil && !force {
			return nil, conflict("unable to remove repository reference %q (must force) - container %s is using its referenced image %s", ref, short(user.ID), short(e.target.Digest.String()))
		}
		gone = []string{name}
		for _, n := range e.names {
			if n != name {
				kept = append(kept, n)
			}
		}
		// A running container's image stays, without a name.
		delete = len(kept) == 0 && (user == nil || !user.Running)
	} else {
		if err := s.mayDelete(e, force, user); err != nil {
			return nil, err
		}
		gone = e.names
	}
	if err := s.catalog.drop(ctx, e, gone, len(kept) > 0, delete); err != nil {
		return nil, err
	}
	for _, n := range gone {
		out = append(out, image.DeleteResponse{Untagged: familiar(n)})
		s.announce.image(events.ActionUnTag, e.target.Digest, e.labels())
	}
	if delete {
		out = append(out, image.DeleteResponse{Deleted: e.target.Digest.String()})
		s.announce.image(events.ActionDelete, e.target.Digest, e.labels())
	}
	return out, nil
}

// mayDelete tells why an image, addressed by its ID, stays.
func (s *Service) mayDelete(e *entry, force bool, user *ContainerUse) error {
	id := short(e.target.Digest.String())
	if user != nil && user.Running {
		return conflict("unable to delete %s (cannot be forced) - image is being used by running container %s", id, short(user.ID))
	}
	if force {
		return nil
	}
	repos := map[string]bool{}
	for _, n := range e.names {
		if named, err := reference.ParseNormalizedNamed(n); err == nil {
			repos[named.Name()] = true
		}
	}
	if len(repos) > 1 || len(e.names) > 1 {
		return conflict("unable to delete %s (must be forced) - image is referenced in multiple repositories", id)
	}
	if user != nil {
		return conflict("unable to delete %s (must be forced) - image is being used by stopped container %s", id, short(user.ID))
	}
	return nil
}

// Prune removes images that no container uses: those without a name, or with the filter dangling=false all.
func (s *Service) Prune(ctx context.Context, a filters.Args) (image.PruneReport, error) {
	report := image.PruneReport{ImagesDeleted: []image.DeleteResponse{}}
	if err := a.Check("dangling", "label", "label!", "until"); err != nil {
		return report, err
	}
	onlyDangling, err := a.Bool("dangling", true)
	if err != nil {
		return report, err
	}
	until, err := parseUntil(a["until"])
	if err != nil {
		return report, err
	}
	before, err := s.DiskUsage(ctx)
	if err != nil {
		return report, err
	}
	uses := s.users.all(ctx)
	for _, e := range s.catalog.all() {
		if onlyDangling && len(e.names) > 0 || !until.IsZero() && !e.created().Before(until) ||
			!a.Labels("label", e.labels()) || !a.NoLabels("label!", e.labels()) ||
			slices.ContainsFunc(uses, func(u ContainerUse) bool { return u.Image == e.target.Digest }) {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return report, err
		}
		refs := slices.Clone(e.names)
		if len(refs) == 0 {
			refs = []string{e.target.Digest.String()}
		}
		for _, ref := range refs {
			out, err := s.untag(ctx, ref, false, uses)
			if err != nil {
				s.log.Warn("an image was not pruned", "image", ref, "error", err)
				break
			}
			report.ImagesDeleted = append(report.ImagesDeleted, out...)
		}
	}
	if len(report.ImagesDeleted) == 0 {
		return report, nil
	}
	s.catalog.sweep(ctx)
	after, err := s.DiskUsage(ctx)
	report.SpaceReclaimed = uint64(max(0, before.TotalSize-after.TotalSize))
	s.announce.pruned(report.SpaceReclaimed)
	return report, err
}
