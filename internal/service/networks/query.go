package networks

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/filters"
)

// querier shows networks, and who is on them.
type querier struct {
	nets    *catalog
	members *members
}

// List gives the networks that match: driver, id, label, name, scope, type, dangling.
func (q *querier) List(_ context.Context, args filters.Args) ([]network.Summary, error) {
	match, err := q.matcher(args)
	if err != nil {
		return nil, err
	}
	out := []network.Summary{}
	for _, n := range q.nets.all() {
		if match(n) {
			out = append(out, network.Summary{Network: describe(n)})
		}
	}
	return out, nil
}

func (q *querier) matcher(args filters.Args) (func(*known) bool, error) {
	if err := args.Check("dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return nil, err
	}
	for _, t := range args["type"] {
		if t != "custom" && t != "builtin" {
			return nil, fmt.Errorf("invalid filter: 'type'='%s': custom or builtin is needed: %w", t, errdefs.ErrInvalidArgument)
		}
	}
	dangling, err := args.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	return func(n *known) bool {
		kind := "custom"
		if n.builtin {
			kind = "builtin"
		}
		if args.Has("dangling") && dangling != (!n.builtin && len(q.members.on(n.ID)) == 0) {
			return false
		}
		return args.Exact("driver", n.Driver) && args.Match("id", n.ID) && args.Match("name", n.Name) &&
			args.Exact("scope", n.Scope) && args.Exact("type", kind) && args.Labels("label", n.Labels)
	}, nil
}

// Name implements containers.Networks.
func (q *querier) Name(_ context.Context, ref string) (string, error) {
	if ref == network.NetworkBridge && !q.nets.bridged() {
		return ref, nil // stands for none
	}
	n, err := q.nets.find(ref)
	if err != nil {
		return "", err
	}
	return n.Name, nil
}

// Inspect shows a network with the containers on it.
func (q *querier) Inspect(_ context.Context, ref, scope string) (network.Inspect, error) {
	n, err := q.nets.find(ref)
	if err != nil || ref == "default" && n.Name != "default" || scope != "" && scope != n.Scope {
		if err == nil || errdefs.IsNotFound(err) {
			err = fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
		}
		return network.Inspect{}, err
	}
	out := network.Inspect{Network: describe(n), Containers: map[string]network.EndpointResource{}}
	for id, ep := range q.members.on(n.ID) {
		mac, _ := net.ParseMAC(ep.MAC)
		out.Containers[id] = network.EndpointResource{
			Name: q.members.nameOf(id), EndpointID: ep.ID, MacAddress: network.HardwareAddr(mac), IPv4Address: ep.IPv4, IPv6Address: ep.IPv6,
		}
	}
	out.Status = status(n)
	return out, nil
}

// status is how full the network's subnets are, nil for a network without addresses.
func status(n *known) *network.Status {
	subnets := map[netip.Prefix]network.SubnetStatus{}
	for _, a := range []Addresses{n.space.V4, n.space.V6} {
		if a == nil {
			continue
		}
		for p, s := range a.Status() {
			subnets[p] = network.SubnetStatus{IPsInUse: s.InUse, DynamicIPsAvailable: s.Available}
		}
	}
	if len(subnets) == 0 {
		return nil
	}
	return &network.Status{IPAM: network.IPAMStatus{Subnets: subnets}}
}

func describe(n *known) network.Network {
	ipam := network.IPAM{Driver: n.IPAM.Driver, Options: n.IPAM.Options, Config: []network.IPAMConfig{}}
	for _, p := range n.Pools {
		c := network.IPAMConfig{Subnet: p.Subnet, Gateway: p.Gateway, AuxAddress: p.Aux}
		if p.Range.IsValid() && p.Range != p.Subnet {
			c.IPRange = p.Range
		}
		ipam.Config = append(ipam.Config, c)
	}
	out := network.Network{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: n.Scope, Driver: n.Driver, EnableIPv4: n.EnableIPv4, EnableIPv6: n.EnableIPv6, IPAM: ipam,
		Internal: n.Internal, Attachable: n.Attachable, Ingress: n.Ingress, ConfigOnly: n.ConfigOnly, ConfigFrom: network.ConfigReference{Network: n.ConfigFrom},
		Options: map[string]string{}, Labels: map[string]string{},
	}
	maps.Copy(out.Options, n.Options)
	maps.Copy(out.Labels, n.Labels)
	return out
}
