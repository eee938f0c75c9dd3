package manifest

import (
	"context"
	"io"

	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/cli/ref"
)

// Opener gives the repository that a name is in, as seen by one user. An insecure one may have any certificate, or none.
type Opener func(ctx context.Context, name ref.Ref, auth registry.AuthConfig, insecure bool) (Repository, error)

// Repository is one repository of a registry. What it does not have is an error of the class "not found".
type Repository interface {
	// Resolve finds what a tag or a digest names.
	Resolve(ctx context.Context, tag string) (ocispec.Descriptor, error)
	// Fetch reads a manifest or a blob from an offset on, at most as many bytes as it should have.
	Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error)
	// Upload sends a blob, unless it can be mounted from one of the repositories from.
	Upload(ctx context.Context, d ocispec.Descriptor, from []string, open func(offset int64) (io.ReadCloser, error)) (mounted string, err error)
	// Put stores a manifest under a tag, or under its digest if the tag is empty.
	Put(ctx context.Context, mediaType, tag string, body []byte) error
	// Close gives the connections back.
	Close()
}
