package web

import (
	"net/http"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/registryserver/access"
	"github.com/gantry-engine/gantry/internal/registryserver/storage"
)

// Store is what is shown. Implemented by storage.Store.
type Store interface {
	Summaries(last string, n int, match func(string) bool) (list []storage.Summary, more bool, err error)
	Tags(repo, last string, n int) (tags []storage.Tag, more bool, err error)
	Detail(repo string, d digest.Digest) (storage.Detail, error)
	Referrers(repo string, d digest.Digest, artifactType string, last digest.Digest, n int) (list []ocispec.Descriptor, more bool, err error)
	Open(repo string, d digest.Digest) (*os.File, storage.Blob, error)
}

// Finder finds content by its digest. Implemented by storage.Store.
type Finder interface {
	Find(prefix string, n int, may func(string) bool) ([]storage.Place, error)
}

// Guard says who looks. Implemented by access.Guard.
type Guard interface {
	Identify(r *http.Request) (access.Identity, error)
	Open() bool
}
