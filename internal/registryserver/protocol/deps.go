package protocol

import (
	"context"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/registryserver/access"
	"github.com/gantry-engine/gantry/internal/registryserver/hooks"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// Content is a blob to be read. Sections of it can be asked for, so it seeks.
type Content interface {
	io.ReadSeekCloser
}

// Source gives content to those who pull. Implemented by Local and by the cache, which asks other registries.
type Source interface {
	// Manifest finds a manifest by tag or digest.
	Manifest(ctx context.Context, repo, reference string) (storage.Stored, error)
	// Stat finds a blob.
	Stat(ctx context.Context, repo string, d digest.Digest) (storage.Blob, error)
	// Open opens a blob.
	Open(ctx context.Context, repo string, d digest.Digest) (Content, storage.Blob, error)
	// Tags lists up to n tags after last, and whether there are more.
	Tags(ctx context.Context, repo, last string, n int) (tags []storage.Tag, more bool, err error)
}

// Uploads are blobs on their way in. Implemented by storage.Store.
type Uploads interface {
	Begin(repo string, alg digest.Algorithm) (*storage.Upload, error)
	Resume(repo, id string) (*storage.Upload, error)
	Mount(repo, from string, d digest.Digest, may func(repository string) bool) (storage.Blob, error)
}

// Changes change what is there. Implemented by storage.Store.
type Changes interface {
	PutManifest(p storage.Put) error
	DeleteManifest(repo string, d digest.Digest) (tags []string, err error)
	DeleteTag(repo, tag string) error
	DeleteBlob(repo string, d digest.Digest) error
}

// Lists say what is there. Implemented by storage.Store.
type Lists interface {
	Repositories(last string, n int, may func(string) bool) (names []string, more bool, err error)
	Referrers(repo string, d digest.Digest, artifactType string, last digest.Digest, n int) (list []ocispec.Descriptor, more bool, err error)
}

// Guard says who asks and what he may. Implemented by access.Guard.
type Guard interface {
	Identify(r *http.Request) (access.Identity, error)
	Admit(r *http.Request, id access.Identity, repository string, actions ...access.Action) error
	AdmitUser(r *http.Request, id access.Identity) error
}

// Observer hears of what was done. It must not wait.
type Observer interface {
	Notify(e hooks.Event)
}

// Local is the Source of a store alone.
type Local struct{ Store *storage.Store }

// Manifest implements Source.
func (l Local) Manifest(_ context.Context, repo, reference string) (storage.Stored, error) {
	return l.Store.Manifest(repo, reference)
}

// Tags implements Source.
func (l Local) Tags(_ context.Context, repo, last string, n int) ([]storage.Tag, bool, error) {
	return l.Store.Tags(repo, last, n)
}

// Stat implements Source.
func (l Local) Stat(_ context.Context, repo string, d digest.Digest) (storage.Blob, error) {
	return l.Store.Blob(repo, d)
}

// Open implements Source. What it gives is an *os.File, which the kernel sends by itself.
func (l Local) Open(_ context.Context, repo string, d digest.Digest) (Content, storage.Blob, error) {
	return l.Store.Open(repo, d)
}
