// Package system answers what the engine is, where it runs and what it takes:
// /info, /version, /system/df.
package system

import (
	"context"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/volume"

	"github.com/gantry-engine/gantry/internal/spec"
)

// The ports that cmd/gantryd fills. Each may be nil: then there is none of it.

// Containers counts and weighs containers.
type Containers interface {
	// Counts is the number of containers by state.
	Counts(ctx context.Context) Counts
	// Usage lists all containers with their sizes.
	Usage(ctx context.Context) ([]container.Summary, error)
	// Known tells whether there is a container with this full ID.
	Known(ctx context.Context, id string) bool
}

// Counts are containers by state; the three add up to all of them.
type Counts struct{ Running, Paused, Stopped int }

// Images counts and weighs images.
type Images interface {
	Count(ctx context.Context) int
	// DiskUsage lists all images with sizes and shared sizes; the total counts
	// every blob and layer once, in bytes.
	DiskUsage(ctx context.Context) (image.DiskUsage, error)
}

// Volumes weighs volumes.
type Volumes interface {
	// Usage lists all volumes with UsageData.
	Usage(ctx context.Context) ([]volume.Volume, error)
}

// Disk measures the data root.
type Disk interface {
	Measure(ctx context.Context) (spec.DiskUse, error)
	// OfContainers lists what lies below the data root for a container: its writable layer ("container") and its logs ("log").
	OfContainers() ([]spec.Leftover, error)
}

// Checks looks at all that images are made of.
type Checks interface {
	// Check says what it finds, and with repair puts right what it can.
	Check(ctx context.Context, repair bool, tell func(spec.CheckStep)) (spec.CheckSum, error)
}

// Records is the database of containers, volumes and networks.
type Records interface {
	// Check walks it.
	Check() []error
}

// Events counts those who listen.
type Events interface{ Listeners() int }
