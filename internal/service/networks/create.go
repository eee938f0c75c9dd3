package networks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/spec"
)

// maker makes and removes networks.
type maker struct {
	nets     *catalog
	members  *members
	deps     Deps
	options  map[string]map[string]string
	announce announcer
}

// Drivers are the names of the network drivers there are, in order.
func (m *maker) Drivers() []string {
	names := append(slices.Collect(maps.Keys(m.deps.Kinds)), "host", "null")
	slices.Sort(names)
	return names
}

// Create makes a user-defined network: checked, made on the host, recorded. What fails is undone; a daemon that dies
// before the record is written finds what it made on the host by its label, and takes it away.
func (m *maker) Create(ctx context.Context, req network.CreateRequest) (_ network.CreateResponse, err error) {
	n, err := settle(req, m.options, time.Now().UTC())
	if err != nil {
		return network.CreateResponse{}, err
	}
	if n.ConfigFrom != "" {
		if n, err = m.follow(n); err != nil {
			return network.CreateResponse{}, err
		}
	}
	var steps undo.Stack
	defer steps.OnError(ctx, &err)
	// The name is taken before anything is made; nobody can use the network yet.
	holder := &known{Network: *n, gone: true}
	if err := m.nets.add(holder); err != nil {
		return network.CreateResponse{}, err
	}
	steps.Push("name", func(context.Context) error { m.nets.drop(holder); return nil })
	k := holder
	if !n.ConfigOnly {
		if k, err = m.build(ctx, holder, &steps); err != nil {
			return network.CreateResponse{}, err
		}
	}
	failpoint.Hit("gantryd.network-made")
	if err := m.save(ctx, k); err != nil {
		return network.CreateResponse{}, err
	}
	failpoint.Hit("gantryd.network-saved")
	if k.driver != nil {
		if err := k.driver.Ready(ctx); err != nil {
			return network.CreateResponse{}, errors.Join(err, m.deps.Records.Remove(context.WithoutCancel(ctx), k.ID))
		}
	}
	k.spare()
	m.announce.network(events.ActionCreate, k)
	return network.CreateResponse{ID: k.ID}, nil
}

// follow makes a network as a configuration says.
func (m *maker) follow(n *spec.Network) (*spec.Network, error) {
	from, err := m.nets.find(n.ConfigFrom)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if !from.ConfigOnly {
		return nil, fmt.Errorf("configuration network %q is not a configuration, it was not made with --config-only: %w", n.ConfigFrom, errdefs.ErrPermissionDenied)
	}
	out := *n
	out.ConfigFrom, out.IPAM = from.Name, from.IPAM
	out.Options, out.Pools = maps.Clone(from.Options), slices.Clone(from.Pools)
	out.EnableIPv4, out.EnableIPv6, out.Internal = from.EnableIPv4, from.EnableIPv6, n.Internal || from.Internal
	if out.Driver == "" {
		out.Driver = from.Driver
	}
	for k, v := range from.Labels {
		if _, own := out.Labels[k]; !own {
			out.Labels[k] = v
		}
	}
	return &out, nil
}

// build gives a network its addresses and makes it on the host. In the catalog it takes the place of the one that
// only held the name.
func (m *maker) build(ctx context.Context, holder *known, steps *undo.Stack) (*known, error) {
	k, err := m.assemble(ctx, holder.Network, steps)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("gantryd.network-addresses")
	if err := k.driver.Open(ctx); err != nil {
		return nil, errors.Join(err, k.driver.Close(context.WithoutCancel(ctx), true))
	}
	steps.Push("network "+k.Name, func(ctx context.Context) error { return k.driver.Close(ctx, true) })
	k.gone = true
	m.nets.replace(holder, k)
	steps.Push("name", func(context.Context) error { m.nets.drop(k); return nil })
	return k, nil
}

// assemble finds a network's driver and addresses. Nothing is made on the host.
func (m *maker) assemble(ctx context.Context, n spec.Network, steps *undo.Stack) (*known, error) {
	kind, err := m.deps.kind(n.Driver)
	if err != nil {
		return nil, err
	}
	if err := kind.Settle(&n); err != nil {
		return nil, err
	}
	ipam, err := m.deps.ipam(n.IPAM.Driver)
	if err != nil {
		return nil, err
	}
	if err := m.clash(n); err != nil {
		return nil, err
	}
	space, err := ipam.Reserve(ctx, &n)
	if err != nil {
		return nil, err
	}
	steps.Push("subnets", func(ctx context.Context) error { return ipam.Release(ctx, n) })
	d, err := kind.New(n, space)
	if err != nil {
		return nil, err
	}
	return &known{Network: n, driver: d, space: space}, nil
}

// bridgeName is the option that names a bridge's interface on the host.
const bridgeName = "com.docker.network.bridge.name"

// clash tells whether another network has what this one wants on the host.
func (m *maker) clash(n spec.Network) error {
	name := n.Options[bridgeName]
	if name == "" || n.Driver != "bridge" {
		return nil
	}
	for _, other := range m.nets.all() {
		if other.ID != n.ID && other.Options[bridgeName] == name && !other.ConfigOnly {
			return fmt.Errorf("cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge name: %w", n.ID, name, other.ID, name, errdefs.ErrPermissionDenied)
		}
	}
	return nil
}

// Remove deletes a user-defined network that no running container is on.
func (m *maker) Remove(ctx context.Context, ref string) error {
	n, err := m.nets.find(ref)
	if err != nil {
		return err
	}
	return m.remove(ctx, n)
}

func (m *maker) remove(ctx context.Context, n *known) error {
	if n.builtin {
		return fmt.Errorf("%s is a pre-defined network and cannot be removed: %w", n.Name, errdefs.ErrPermissionDenied)
	}
	if n.ConfigOnly {
		for _, other := range m.nets.all() {
			if other.ConfigFrom == n.Name {
				return fmt.Errorf("configuration network %q is in use by network %s: %w", n.Name, other.Name, errdefs.ErrPermissionDenied)
			}
		}
	}
	if !n.condemn() {
		return fmt.Errorf("error while removing network: network %s id %s has active endpoints%s: %w", n.Name, n.ID, m.members.onText(n.ID), errdefs.ErrPermissionDenied)
	}
	ctx = context.WithoutCancel(ctx)
	failpoint.Hit("gantryd.network-condemned")
	if n.driver != nil {
		// First what is on the host: a daemon that dies now finds the record, and the network is still there.
		if err := n.driver.Close(ctx, true); err != nil {
			n.spare()
			return fmt.Errorf("removing network %s: %w", n.Name, err)
		}
	}
	failpoint.Hit("gantryd.network-closed")
	if err := m.deps.Records.Remove(ctx, n.ID); err != nil {
		return errors.Join(fmt.Errorf("removing network %s: %w", n.Name, err), m.reopen(ctx, n))
	}
	failpoint.Hit("gantryd.network-forgotten")
	var released error
	if n.driver != nil {
		if ipam, err := m.deps.ipam(n.IPAM.Driver); err == nil {
			released = ipam.Release(ctx, n.Network)
		}
	}
	m.nets.drop(n)
	m.announce.network(events.ActionDestroy, n)
	return released
}

// reopen brings a network back whose record could not be removed: its driver, as good as new.
func (m *maker) reopen(ctx context.Context, n *known) error {
	if n.driver == nil {
		n.spare()
		return nil
	}
	kind, err := m.deps.kind(n.Driver)
	if err != nil {
		return err
	}
	as := n.Network
	as.Recorded = false // it is made anew
	d, err := kind.New(as, n.space)
	if err != nil {
		return err
	}
	again := &known{Network: as, driver: d, space: n.space}
	if again.shut = d.Open(ctx); again.shut == nil {
		again.shut = d.Ready(ctx)
	}
	m.nets.replace(n, again)
	return again.shut
}

// Prune removes user-defined networks that no running container is on.
func (m *maker) Prune(ctx context.Context, args filters.Args) (network.PruneReport, error) {
	out := network.PruneReport{NetworksDeleted: []string{}}
	if err := args.Check("label", "label!", "until"); err != nil {
		return out, err
	}
	until, err := args.Until(time.Now())
	if err != nil {
		return out, err
	}
	for _, n := range m.nets.all() {
		if n.builtin || !args.Labels("label", n.Labels) || !args.NoLabels("label!", n.Labels) || !until.IsZero() && n.Created.After(until) {
			continue
		}
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		switch err := m.remove(ctx, n); {
		case err == nil:
			out.NetworksDeleted = append(out.NetworksDeleted, n.Name)
		case !errdefs.IsPermissionDenied(err):
			return out, err
		}
	}
	m.announce.pruned()
	return out, nil
}
