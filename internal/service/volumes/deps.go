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
//
// Create and Remove are each one half of a change of which the record is the other.
// They are on disk when they return; then the record is saved or removed, and then
// exactly one of the two functions is called: keep finishes the change, undo takes it back.
// A crash on the way is put right by Content.Sweep.
type Driver interface {
	// Create makes the volume's folder. One that is there is taken with its content, and undo spares it.
	Create(ctx context.Context, name string, opts map[string]string) (keep, undo func() error, err error)
	// Remove takes the content out of sight; keep deletes it. What is not there is no error.
	Remove(ctx context.Context, name string) (keep, undo func() error, err error)
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
	// Populate copies the image's folder at path into the volume, durably, if the volume is empty.
	Populate(ctx context.Context, name string, root spec.Rootfs, path string) error
	// Size is what the content takes on disk, in bytes, hard links counted once.
	Size(ctx context.Context, name string) (int64, error)
	// Sweep finishes creations and removals that a crash interrupted. It touches nothing
	// else: kept names the folders that have content but no record.
	Sweep(ctx context.Context, known func(name string) bool) (kept []string, err error)
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
