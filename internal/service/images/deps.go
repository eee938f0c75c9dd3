package images

import (
	"context"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/images/transfer"
	"github.com/gantry-engine/gantry/internal/service/images/trust"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Content keeps blobs and names. Implemented by driver/content.
type Content interface {
	Blobs() content.Store
	Images() cimages.Store
	// Context adds what every call of the stores needs.
	Context(ctx context.Context) context.Context
	// Hold takes a lease: what is written with the returned context stays until release.
	Hold(ctx context.Context) (held context.Context, release func(), err error)
	// Update makes all changes of names in fn durable together, or none.
	Update(ctx context.Context, fn func(context.Context) error) error
	// Receive opens the file in which a blob comes in. What is there of it from a download that broke off is in it.
	Receive(d digest.Digest) (Incoming, error)
	// Land opens a file for a blob whose digest is not known yet.
	Land() (Landing, error)
	// Adopt makes blobs that came in, whole and verified, durable and part of the store, under ctx's lease. Those that
	// the store has already come under the lease.
	Adopt(ctx context.Context, list []Arrival) error
	// Collect deletes blobs that neither a name nor a lease leads to.
	Collect(ctx context.Context) error
}

// Incoming is the file of a blob on its way in.
type Incoming = transfer.File

// Landing is the file of a blob that comes in before its digest is known. Close drops it, unless it was named.
type Landing interface {
	Incoming
	// Sync writes to disk what came in.
	Sync() error
	// Named says which blob it is: Adopt finds it from then on.
	Named(d digest.Digest) error
}

// Arrival is a blob that came in.
type Arrival struct {
	Digest digest.Digest
	Size   int64
	Labels map[string]string
	// Source is the repository, by its canonical name, if it gives the blob to everybody.
	Source string
}

// Registry is the way to image registries. Implemented by driver/registry.
type Registry interface {
	// Open gives the repository that a name is in, as seen by one user; it has to be closed. It asks nothing of a registry yet.
	Open(ctx context.Context, name reference.Named, auth registry.AuthConfig) (Repository, error)
}

// Repository is one repository of a registry, as seen by one user.
type Repository interface {
	// Resolve finds what a tag or a digest names.
	Resolve(ctx context.Context, tag string) (ocispec.Descriptor, error)
	// Tags lists the repository's tags.
	Tags(ctx context.Context) ([]string, error)
	// Fetch reads a manifest or a blob from offset on, at most d.Size bytes in all. The reader takes up by itself what breaks off.
	Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error)
	// Has tells whether the repository has a blob.
	Has(ctx context.Context, d ocispec.Descriptor) (bool, error)
	// Upload sends a blob that open reads from an offset on, unless the registry has it in one of the
	// repositories from (names without the host) and mounts it: then it says which.
	Upload(ctx context.Context, d ocispec.Descriptor, from []string, open func(offset int64) (io.ReadCloser, error)) (mounted string, err error)
	// Put stores a manifest under a tag, or under its digest if the tag is empty.
	Put(ctx context.Context, mediaType, tag string, body []byte) error
	trust.Referrers
	Close()
}

// Layer is one layer of an image, to be unpacked.
type Layer struct {
	DiffID digest.Digest
	// Open gives the uncompressed tar stream. It may be called more than once.
	Open func(ctx context.Context) (io.ReadCloser, error)
	// Served, if its Dir is not empty, is where the layer shows itself although it is not here: it is not unpacked yet.
	Served Served
	// Staged is the layer, unpacked already; it may be nil.
	Staged Staged
}

// Staged is a layer that was unpacked before it was known what image it is of.
type Staged interface {
	DiffID() digest.Digest
	// Discard throws it away, unless an image has it.
	Discard()
}

// Layers keeps unpacked layers. Implemented by driver/layers.
type Layers interface {
	// Unpack unpacks what is not there yet, verifying each diff ID, and makes it
	// durable. Until release, Collect spares the layers.
	Unpack(ctx context.Context, layers []Layer) (release func(), err error)
	// Stage unpacks the layer whose uncompressed tar stream open gives, for an image to come. It is nil where that cannot be done.
	Stage(ctx context.Context, open func(ctx context.Context) (io.ReadCloser, error)) (Staged, error)
	// Unpacked gives the size of each layer in bytes; ok is false unless all are there.
	Unpacked(diffIDs []digest.Digest) (sizes []int64, ok bool)
	// Here tells whether a layer is unpacked, whatever image it is of.
	Here(diffID digest.Digest) bool
	// Collect removes all layers but those of the given images, those that
	// containers are made of, and those held; it returns the bytes freed.
	Collect(ctx context.Context, keep [][]digest.Digest) (freed int64, err error)
	// Export writes what a container changed as a layer tar, with whiteouts.
	Export(ctx context.Context, container string, w io.Writer) error
}

// ContentCheck looks after the content store's files.
type ContentCheck interface {
	// CheckBlob compares a blob's file with its digest: ErrNotFound, ErrDataLoss or nil.
	CheckBlob(ctx context.Context, d digest.Digest) error
	// RestoreBlob puts what r gives in the place of a blob's file.
	RestoreBlob(ctx context.Context, d digest.Digest, r io.Reader) error
	// Orphans are files without a record.
	Orphans(ctx context.Context) ([]digest.Digest, error)
	DiscardOrphan(ctx context.Context, d digest.Digest) error
	// CheckRecords looks into the database.
	CheckRecords() []error
}

// LayerCheck looks after unpacked layers.
type LayerCheck interface {
	// Check compares a layer's files with its archive: open's, or, if that is nil, made again of the files themselves. It is
	// ErrNotFound if the layer is not here, ErrUnavailable if there is no archive to compare with.
	Check(ctx context.Context, diffID digest.Digest, open func(ctx context.Context) (io.ReadCloser, error)) (wrong []string, err error)
	// Mend makes a layer's files what open's archive says, in place.
	Mend(ctx context.Context, diffID digest.Digest, open func(ctx context.Context) (io.ReadCloser, error)) error
	// Orphans are directories of layers that the store does not know, Discard throws one away.
	Orphans() ([]string, error)
	Discard(orphan string) error
}

// ContainerUse is a container that was made from an image.
type ContainerUse struct {
	ID      string
	Image   digest.Digest // the image ID
	Name    string        // the reference it was created with
	Running bool
}

// Containers tells what containers need of images. Implemented by service/containers.
type Containers interface {
	// Uses lists all containers with their images.
	Uses(ctx context.Context) []ContainerUse
	// Snapshot finds a container by reference and calls fn with what a commit
	// needs, while the container is paused if that was asked for and it runs.
	Snapshot(ctx context.Context, ref string, pause bool, fn func(context.Context, Committable) error) error
}

// Committable is a container as seen by commit.
type Committable struct {
	ID     string
	Image  spec.Image       // what it was made from
	Config spec.ImageConfig // its own configuration, merged with the image's
	// Attributes are those of the container's events: name, image, labels.
	Attributes map[string]string
}

// Events publishes what happened. Implemented by service/events.
type Events interface {
	Publish(m events.Message)
}
