// Package volumes holds the use cases of volumes: create, list, inspect, remove,
// prune, the count of containers that hold one, and the first filling from an image.
package volumes

import (
	"context"
	"iter"

	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/spec"
)

// Driver keeps volumes' content. Implemented by driver/volume/local.
type Driver interface {
	// Create makes the volume's folder; creating what is there is no error.
	Create(ctx context.Context, name string, opts map[string]string) error
	// Remove deletes the content; removing what is not there is no error.
	Remove(ctx context.Context, name string) error
	// Mount makes the content reachable at Path(name); it does nothing when it is.
	Mount(ctx context.Context, name string, opts map[string]string) error
	// Unmount undoes Mount; unmounting what is not mounted is no error.
	Unmount(ctx context.Context, name string) error
	// Path is the absolute directory of the content.
	Path(name string) string
}

// Content fills and weighs volumes. Implemented by driver/volume/local.
type Content interface {
	// Validate checks options at create.
	Validate(opts map[string]string) error
	// Populate copies the image's folder at path into the volume, if the volume is empty.
	Populate(ctx context.Context, name string, root spec.Rootfs, path string) error
	// Size is what the content takes on disk, in bytes, hard links counted once.
	Size(ctx context.Context, name string) (int64, error)
	// Sweep deletes folders of volumes that known does not know, left by a crash.
	Sweep(ctx context.Context, known func(name string) bool) error
}

// Records keeps volume records. Implemented by internal/store.
type Records interface {
	// Save commits the record durably before it returns.
	Save(ctx context.Context, name string, record []byte) error
	// Remove deletes the record durably.
	Remove(ctx context.Context, name string) error
	// All yields every record.
	All(ctx context.Context) iter.Seq2[string, []byte]
}

// Events publishes what happened. Implemented by service/events.
type Events interface{ Publish(m events.Message) }
