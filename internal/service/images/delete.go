package images

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// remover takes names away from images, and with the last one the image.
type remover struct {
	catalog  *catalog
	users    *users
	announce announcer
}

// DeleteOptions are the query parameters of DELETE /images/{name}.
type DeleteOptions struct {
	Force     bool
	Platforms []ocispec.Platform
}

// Delete removes a name, and the image with its last one; or, by ID, the image with all its names.
func (r *remover) Delete(ctx context.Context, ref string, o DeleteOptions) ([]image.DeleteResponse, error) {
	if len(o.Platforms) > 0 {
		return nil, fmt.Errorf("deleting single platforms of an image is not implemented yet: %w", errdefs.ErrNotImplemented)
	}
	uses := r.users.all(ctx) // before the lock: it asks another service
	out, err := r.untag(ctx, ref, o.Force, uses)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(out, func(r image.DeleteResponse) bool { return r.Deleted != "" }) {
		r.catalog.sweep(ctx)
	}
	return out, nil
}

func (r *remover) untag(ctx context.Context, ref string, force bool, uses []ContainerUse) (out []image.DeleteResponse, err error) {
	r.catalog.write.Lock()
	defer r.catalog.write.Unlock()
	e, found, err := r.catalog.find(ref)
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
			return nil, classed.Conflict("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s", ref, short(user.ID), short(e.target.Digest.String()))
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
		if err := mayDelete(e, force, user); err != nil {
			return nil, err
		}
		gone = e.names
	}
	if err := r.catalog.drop(ctx, e, gone, len(kept) > 0, delete); err != nil {
		return nil, err
	}
	for _, n := range gone {
		out = append(out, image.DeleteResponse{Untagged: familiar(n)})
		r.announce.image(events.ActionUnTag, e.target.Digest, e.labels())
	}
	if delete {
		out = append(out, image.DeleteResponse{Deleted: e.target.Digest.String()})
		r.announce.image(events.ActionDelete, e.target.Digest, e.labels())
	}
	return out, nil
}

// mayDelete tells why an image, addressed by its ID, stays.
func mayDelete(e *entry, force bool, user *ContainerUse) error {
	id := short(e.target.Digest.String())
	if user != nil && user.Running {
		return classed.Conflict("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s", id, short(user.ID))
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
		return classed.Conflict("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", id)
	}
	if user != nil {
		return classed.Conflict("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s", id, short(user.ID))
	}
	return nil
}
