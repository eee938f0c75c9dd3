// Package host is the driver of the network "host": the container shares the
// host's own namespace, so there is nothing to make.
package host

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Driver makes nothing.
type Driver struct{}

// New makes the driver.
func New() Driver { return Driver{} }

// Open implements networks.Driver.
func (Driver) Open(context.Context) error { return nil }

// Ready implements networks.Driver.
func (Driver) Ready(context.Context) error { return nil }

// Close implements networks.Driver.
func (Driver) Close(context.Context, bool) error { return nil }

// Attach implements networks.Driver. Net sysctls would change the host's and are refused.
func (Driver) Attach(_ context.Context, j networks.Join) (networks.Attached, error) {
	for name := range j.Sysctls {
		return networks.Attached{}, fmt.Errorf("sysctl '%s' not allowed in host network namespace: %w", name, errdefs.ErrInvalidArgument)
	}
	return networks.Attached{}, nil
}

// Restore implements networks.Driver.
func (Driver) Restore(context.Context, spec.Endpoint) error { return nil }

// Unplug implements networks.Driver: who is on this network is on no other, and leaves it with its end.
func (Driver) Unplug(context.Context, spec.Endpoint, *os.File) error { return nil }

// Detach implements networks.Driver.
func (Driver) Detach(context.Context, spec.Endpoint) error { return nil }
