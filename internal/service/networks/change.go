package networks

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/filters"
)

// changer makes and removes networks, and changes who is on one.
type changer struct{ nets catalog }

// Prune removes user-defined networks that nobody uses: there are none yet.
func (c *changer) Prune(_ context.Context, args filters.Args) (network.PruneReport, error) {
	if err := args.Check("label", "label!", "until"); err != nil {
		return network.PruneReport{}, err
	}
	return network.PruneReport{NetworksDeleted: []string{}}, nil
}

// Create makes a user-defined network.
func (c *changer) Create(_ context.Context, req network.CreateRequest) (network.CreateResponse, error) {
	if slices.Contains([]string{"bridge", "host", "none", "default"}, req.Name) {
		return network.CreateResponse{}, fmt.Errorf("operation is not permitted on predefined %s network: %w", req.Name, errdefs.ErrPermissionDenied)
	}
	return network.CreateResponse{}, fmt.Errorf("creating network %s: user-defined networks are not there yet, use bridge, host or none: %w", req.Name, errdefs.ErrNotImplemented)
}

// Connect adds a network to a container.
func (c *changer) Connect(_ context.Context, ref string, req network.ConnectRequest) error {
	return c.changeMembers("connecting", "to", ref, req.Container)
}

// Disconnect takes a network from a container.
func (c *changer) Disconnect(_ context.Context, ref string, req network.DisconnectRequest) error {
	return c.changeMembers("disconnecting", "from", ref, req.Container)
}

func (c *changer) changeMembers(doing, word, ref, container string) error {
	n, err := c.nets.find(ref)
	if err != nil {
		return err
	}
	if n.kind == "host" {
		return fmt.Errorf("cannot connect or disconnect container to host network - hostnetwork mode must be set at create: %w", errdefs.ErrPermissionDenied)
	}
	return fmt.Errorf("%s container %s %s network %s: changing a container's networks is not there yet, choose them at create: %w",
		doing, container, word, n.name, errdefs.ErrNotImplemented)
}

// Remove deletes a user-defined network.
func (c *changer) Remove(_ context.Context, ref string) error {
	n, err := c.nets.find(ref)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s is a pre-defined network and cannot be removed: %w", n.name, errdefs.ErrPermissionDenied)
}
