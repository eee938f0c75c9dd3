package trust

import (
	"context"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/trust/program"
)

// Verifier examines signatures. Implemented by internal/trust/program, which leaves it to an executable of its own.
type Verifier interface {
	Verify(ctx context.Context, q program.Verify) (program.Verdicts, error)
}

// Content is where signatures are kept. Implemented by driver/content.
type Content interface {
	Blobs() content.Store
	Context(ctx context.Context) context.Context
	Hold(ctx context.Context) (held context.Context, release func(), err error)
}

// Referrers is what a registry knows of manifests that refer to others. Implemented by driver/registry.
type Referrers interface {
	// Referrers lists the manifests that refer to subject; none is no error.
	Referrers(ctx context.Context, subject digest.Digest) ([]ocispec.Descriptor, error)
	// Refer stores a manifest that refers to subject, and has Referrers find it.
	Refer(ctx context.Context, subject digest.Digest, d ocispec.Descriptor, body []byte) error
}

// Repository is the part of a repository that signatures are read from. Implemented by driver/registry.
type Repository interface {
	Referrers
	Resolve(ctx context.Context, tag string) (ocispec.Descriptor, error)
	Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error)
	Close()
}

// Open gives the repository that a name is in, as a stranger sees it.
type Open func(ctx context.Context, named reference.Named) (Repository, error)
