package ipam

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Null is the address management "null": a network has no addresses, containers get theirs elsewhere.
type Null struct{}

// Reserve implements networks.IPAM.
func (Null) Reserve(_ context.Context, n *spec.Network) (networks.Space, error) {
	for _, p := range n.Pools {
		if p.Subnet.Bits() != 0 {
			return networks.Space{}, fmt.Errorf("null ipam driver does not handle specific address pool requests: subnet %s: %w", p.Subnet, errdefs.ErrInvalidArgument)
		}
	}
	n.Pools = nil
	return networks.Space{}, nil
}

// Release implements networks.IPAM.
func (Null) Release(context.Context, spec.Network) error { return nil }
