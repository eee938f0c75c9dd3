package networks

import (
	"context"
	"os"

	"github.com/gantry-engine/gantry/internal/spec"
)

// Names answers containers' questions about names, at 127.0.0.11 in their namespaces. Implemented by driver/network/names.
// What is asked twice changes nothing the second time.
type Names interface {
	// Serve sets what a container may ask, and where it asks; and joins endpoints, all or none. Without a namespace it
	// changes what a container that is served already may ask.
	Serve(ctx context.Context, sb spec.NameSandbox, at NamePlace, joins ...spec.NameEndpoint) error
	// Join makes a container known on a network, or replaces what was known under the endpoint's ID.
	Join(ctx context.Context, ep spec.NameEndpoint) error
	// Leave takes an endpoint back; one that is not known is no error.
	Leave(ctx context.Context, endpoint string) error
	// Gone takes back all that is known of a container.
	Gone(ctx context.Context, container string) error
	NamesLife
}

// NamesLife is the frame of Names.
type NamesLife interface {
	// Prepare makes in a namespace what takes time, ahead of Serve.
	Prepare(ns *os.File) error
	// Restore notes what is true of a former daemon's container; it takes effect with Ready.
	Restore(sb spec.NameSandbox, eps []spec.NameEndpoint)
	// Ready makes what was restored true, and nothing else; what cannot be is logged and tried again.
	Ready(ctx context.Context)
	// Close ends. Containers are served on.
	Close() error
}

// NamePlace is a container's network namespace.
type NamePlace struct {
	NetNS    *os.File // stays the caller's; nil: as it was
	Prepared bool     // Prepare has succeeded there
}
