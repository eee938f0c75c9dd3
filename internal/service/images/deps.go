package images

import (
	"context"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"

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
	// Collect deletes blobs that neither a name nor a lease leads to.
	Collect(ctx context.Context) error
}

// Layer is one layer of an image, to be unpacked.
type Layer struct {
	DiffID digest.Digest
	// Open gives the uncompressed tar stream. It may be called more than once.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Layers keeps unpacked layers. Implemented by driver/layers.
type Layers interface {
	// Unpack unpacks what is not there yet, verifying each diff ID, and makes it
	// durable. Until release, Collect spares the layers.
	Unpack(ctx context.Context, layers []Layer) (release func(), err error)
	// Unpacked gives the size of each layer in bytes; ok is false unless all are there.
	Unpacked(diffIDs []digest.Digest) (sizes []int64, ok bool)
	// Collect removes all layers but those of the given images, those that
	// containers are made of, and those held; it returns the bytes freed.
	Collect(ctx context.Context, keep [][]digest.Digest) (freed int64, err error)
	// Export writes what a container changed as a layer tar, with whiteouts.
	Export(ctx context.Context, container string, w io.Writer) error
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
