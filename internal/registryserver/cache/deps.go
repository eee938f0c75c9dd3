package cache

import (
	"context"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/registryserver/manifest"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// Upstream is another registry. repo is the name there. Its errors have classes of errdefs: NotFound is its own word that
// there is no such thing; anything else may pass. Implemented over driver/registry in cmd/gantry-registry.
type Upstream interface {
	// Resolve finds what a tag or digest names.
	Resolve(ctx context.Context, repo, reference string) (ocispec.Descriptor, error)
	// Fetch reads a manifest or a blob from its beginning, d.Size bytes. It takes up by itself what breaks off.
	Fetch(ctx context.Context, repo string, d ocispec.Descriptor) (io.ReadCloser, error)
	// Tags lists a repository's tags.
	Tags(ctx context.Context, repo string) ([]string, error)
}

// Content is what is kept. Implemented by storage.Store.
type Content interface {
	Manifest(repo, reference string) (storage.Stored, error)
	PutManifest(p storage.Put) error
	Blob(repo string, d digest.Digest) (storage.Blob, error)
	Open(repo string, d digest.Digest) (*os.File, storage.Blob, error)
	Begin(repo string, alg digest.Algorithm) (*storage.Upload, error)
}

// Records say what is known of what is kept. Implemented by storage.Catalog, as a part of a Store.
type Records interface {
	Reference(repo string, d digest.Digest) (manifest.Reference, error)
	Tags(repo, last string, n int) (tags []storage.Tag, more bool, err error)
	Has(repo string) bool
}

// Space makes room. Implemented by storage.Collector.
type Space interface {
	// Spared is what the repositories take that are another registry's.
	Spared() int64
	Evict(room int64) (freed int64, err error)
	Refresh(repo string, d digest.Digest) error
}

// Counter counts how requests ended. Implemented by metrics.Metrics.
type Counter interface {
	Cache(kind, result string)
}
