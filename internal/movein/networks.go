package movein

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/dockerroot"
)

const kindNetwork = "network"

// networks takes networks over.
type networks struct{ *job }

func (m *networks) run(ctx context.Context) error {
	list, problems := m.root.Networks()
	for _, n := range list {
		if err := m.add(ctx, m.take(ctx, n)); err != nil {
			return err
		}
	}
	return m.problems(ctx, problems)
}

func (m *networks) take(ctx context.Context, n dockerroot.Network) Item {
	item := Item{Kind: kindNetwork, Name: n.Name, Result: Taken, Note: describe(n)}
	if n.Scope != "local" {
		item.Result, item.Note = LeftOut, "it belongs to a swarm: "+item.Note
		return item
	}
	req, err := request(n)
	if err != nil {
		return failed(kindNetwork, n.Name, err)
	}
	var here network.Inspect
	err = m.engine.Get(ctx, "/networks/"+n.Name, nil, &here)
	switch {
	case err == nil && sameNetwork(here, n):
		item.Result = Present
		return item
	case err == nil && !m.o.Force:
		return conflict(kindNetwork, n.Name, "here it is another network (%s); in Docker: %s. --force replaces it", here.Driver, item.Note)
	case err != nil && !api.IsNotFound(err):
		return failed(kindNetwork, n.Name, err)
	}
	if m.o.DryRun {
		item.Result = Planned
		return item
	}
	if err == nil {
		if err := m.engine.Delete(ctx, "/networks/"+n.Name, nil, nil); err != nil {
			return failed(kindNetwork, n.Name, err)
		}
	}
	if err := m.engine.Post(ctx, "/networks/create", nil, req, nil); err != nil {
		return failed(kindNetwork, n.Name, fmt.Errorf("%w (in Docker: %s)", err, item.Note))
	}
	return item
}

// describe says what a network is, in a few words.
func describe(n dockerroot.Network) string {
	s := n.Driver
	for _, p := range n.Pools {
		s += " " + p.Subnet
	}
	if n.Internal {
		s += " internal"
	}
	return s
}

func request(n dockerroot.Network) (*network.CreateRequest, error) {
	req := &network.CreateRequest{Name: n.Name, Driver: n.Driver, Scope: n.Scope, Internal: n.Internal, Attachable: n.Attachable, ConfigOnly: n.ConfigOnly, Options: n.Options, Labels: n.Labels}
	if n.EnableIPv6 {
		req.EnableIPv6 = &n.EnableIPv6
	}
	if n.ConfigFrom != "" {
		req.ConfigFrom = &network.ConfigReference{Network: n.ConfigFrom}
	}
	ipam := &network.IPAM{Driver: n.IPAM}
	for _, p := range n.Pools {
		c, err := pool(p)
		if err != nil {
			return nil, fmt.Errorf("its addresses: %w", err)
		}
		ipam.Config = append(ipam.Config, c)
	}
	if len(ipam.Config) > 0 {
		req.IPAM = ipam
	}
	return req, nil
}

func pool(p dockerroot.Pool) (c network.IPAMConfig, err error) {
	if c.Subnet, err = netip.ParsePrefix(p.Subnet); err != nil {
		return c, err
	}
	if p.Range != "" {
		if c.IPRange, err = netip.ParsePrefix(p.Range); err != nil {
			return c, err
		}
	}
	if p.Gateway != "" {
		if c.Gateway, err = netip.ParseAddr(p.Gateway); err != nil {
			return c, err
		}
	}
	for name, a := range p.Aux {
		addr, err := netip.ParseAddr(a)
		if err != nil {
			return c, err
		}
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]netip.Addr{}
		}
		c.AuxAddress[name] = addr
	}
	return c, nil
}

// sameNetwork compares driver and addresses, where the user chose them.
func sameNetwork(here network.Inspect, n dockerroot.Network) bool {
	if here.Driver != n.Driver || here.Internal != n.Internal {
		return false
	}
	for _, p := range n.Pools {
		if !slices.ContainsFunc(here.IPAM.Config, func(c network.IPAMConfig) bool { return c.Subnet.String() == p.Subnet }) {
			return false
		}
	}
	return true
}
