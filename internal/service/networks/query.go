package networks

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/filters"
)

// querier shows networks, and who is on them.
type querier struct {
	nets    catalog
	members *members
	created time.Time // of the predefined networks
}

// List gives the networks that match: driver, id, label, name, scope, type, dangling.
func (q *querier) List(_ context.Context, args filters.Args) ([]network.Summary, error) {
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
	out := []network.Summary{}
	for _, n := range q.nets {
		if args.Has("dangling") && dangling || !args.Exact("driver", n.kind) || !args.Match("id", n.id) ||
			!args.Match("name", n.name) || !args.Exact("scope", "local") || !args.Exact("type", "builtin") || !args.Labels("label", nil) {
			continue
		}
		out = append(out, network.Summary{Network: q.describe(n)})
	}
	return out, nil
}

// Inspect shows a network with the containers on it.
func (q *querier) Inspect(_ context.Context, ref, scope string) (network.Inspect, error) {
	n, err := q.nets.find(ref)
	if err != nil || ref == "default" || scope != "" && scope != "local" {
		return network.Inspect{}, fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
	}
	out := network.Inspect{Network: q.describe(n), Containers: map[string]network.EndpointResource{}}
	for id, ep := range q.members.on(n.id) {
		mac, _ := net.ParseMAC(ep.MAC)
		out.Containers[id] = network.EndpointResource{
			Name: q.members.nameOf(id), EndpointID: ep.ID, MacAddress: network.HardwareAddr(mac), IPv4Address: ep.IPv4, IPv6Address: ep.IPv6,
		}
	}
	return out, nil
}

func (q *querier) describe(n *known) network.Network {
	f := n.facts
	ipam := network.IPAM{Driver: "default", Config: []network.IPAMConfig{}}
	if f.Subnet.IsValid() {
		c := network.IPAMConfig{Subnet: f.Subnet, Gateway: f.Gateway}
		if f.Range.IsValid() && f.Range != f.Subnet {
			c.IPRange = f.Range
		}
		ipam.Config = append(ipam.Config, c)
	}
	opts := map[string]string{}
	for k, v := range f.Options {
		opts[k] = v
	}
	return network.Network{
		Name: n.name, ID: n.id, Created: q.created, Scope: "local", Driver: n.kind,
		EnableIPv4: true, IPAM: ipam, Options: opts, Labels: map[string]string{},
	}
}
