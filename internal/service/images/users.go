package images

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// users are the containers that use images. Until the containers are there, no image is in use.
type users struct{ containers Containers }

func (u *users) all(ctx context.Context) []ContainerUse {
	if u.containers == nil {
		return nil
	}
	return u.containers.Uses(ctx)
}

// byImage lists the containers of each image, by its ID.
func (u *users) byImage(ctx context.Context) map[digest.Digest][]string {
	out := map[digest.Digest][]string{}
	for _, c := range u.all(ctx) {
		out[c.Image] = append(out[c.Image], c.ID)
	}
	return out
}
