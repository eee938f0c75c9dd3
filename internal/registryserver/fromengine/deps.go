package fromengine

import (
	"context"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// Engine is where images come from. Its errors have classes of errdefs. Implemented over the Engine API in cmd/gantry-registry.
type Engine interface {
	// Names lists the images' names with their tags, as NAME:TAG.
	Names(ctx context.Context) ([]string, error)
	// ID is an image's ID.
	ID(ctx context.Context, name string) (string, error)
	// Export gives an image as an archive with an OCI layout, as `docker save` does.
	Export(ctx context.Context, name string) (io.ReadCloser, error)
}

// Store keeps what was asked for. Implemented by storage.Store.
type Store interface {
	Begin(repo string, alg digest.Algorithm) (*storage.Upload, error)
	PutManifest(p storage.Put) error
	DeleteTag(repo, tag string) error
	Manifest(repo, reference string) (storage.Stored, error)
	Open(repo string, d digest.Digest) (*os.File, storage.Blob, error)
}
