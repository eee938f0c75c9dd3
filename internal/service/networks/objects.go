package networks

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/filters"
)

// find looks a network up by name, ID or unambiguous beginning of an ID. "default"
// is the bridge, or none where the bridge is switched off.
func (s *Service) find(ref string) (*known, error) {
	if ref == "" || ref == "default" {
		return s.nets[0].orNone(s), nil
	}
	var hit *known
	for _, n := range s.nets {
		if n.name == ref || n.id == ref {
			return n, nil
		}
		if strings.HasPrefix(n.id, ref) {
			if hit != nil {
				return nil, fmt.Errorf("network %s is ambiguous (2 matches found based on ID prefix): %w", ref, errdefs.ErrInvalidArgument)
			}
			hit = n
		}
	}
	if hit == nil {
		return nil, fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
	}
	return hit, nil
}

func (n *known) orNone(s *Service) *known {
	if n.kind == "bridge" {
		return n
	}
	return s.nets[len(s.nets)-1]
}

func (s *Service) byID(id string) *known {
	for _, n := range s.nets {
		if n.id == id {
			return n
		}
	}
	return nil
}

// List gives the networks that match: driver, id, label, name, scope, type, dangling.
func (s *Service) List(_ context.Context, args filters.Args) ([]network.Summary, error) {
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
	for _, n := range s.nets {
		if args.Has("dangling") && dangling || !args.Exact("driver", n.kind) || !args.Match("id", n.id) ||
			!args.Match("name", n.name) || !args.Exact("scope", "local") || !args.Exact("type", "builtin") || !args.Labels("label", nil) {
			continue
		}
		out = append(out, network.Summary{Network: s.describe(n)})
	}
	return out, nil
}

// Inspect shows a network with the containers on it.
func (s *Service) Inspect(_ context.Context, ref, scope string) (network.Inspect, error) {
	n, err := s.find(ref)
	if err != nil || ref == "default" || scope != "" && scope != "local" {
		return network.Inspect{}, fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
	}
	out := network.Inspect{Network: s.describe(n), Containers: map[string]network.EndpointResource{}}
	s.mu.Lock()
	for id, a := range s.attached {
		for _, ep := range a.sandbox.Endpoints {
			if ep.NetworkID == n.id {
				mac, _ := net.ParseMAC(ep.MAC)
				out.Containers[id] = network.EndpointResource{EndpointID: ep.ID, MacAddress: network.HardwareAddr(mac), IPv4Address: ep.IPv4, IPv6Address: ep.IPv6}
			}
		}
	}
	s.mu.Unlock()
	for id, r := range out.Containers {
		r.Name = s.nameOf(id)
		out.Containers[id] = r
	}
	return out, nil
}

func (s *Service) describe(n *known) network.Network {
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
		Name: n.name, ID: n.id, Created: s.cfg.Created, Scope: "local", Driver: n.kind,
		EnableIPv4: true, IPAM: ipam, Options: opts, Labels: map[string]string{},
	}
}

// Prune removes user-defined networks that nobody uses: there are none yet.
func (s *Service) Prune(_ context.Context, args filters.Args) (network.PruneReport, error) {
	if err := args.Check("label", "label!", "until"); err != nil {
		return network.PruneReport{}, err
	}
	return network.PruneReport{NetworksDeleted: []string{}}, nil
}

// Create makes a user-defined network.
func (s *Service) Create(_ context.Context, req network.CreateRequest) (network.CreateResponse, error) {
	if slices.Contains([]string{"bridge", "host", "none", "default"}, req.Name) {
		return network.CreateResponse{}, fmt.Errorf("operation is not permitted on predefined %s network: %w", req.Name, errdefs.ErrPermissionDenied)
	}
	return network.CreateResponse{}, fmt.Errorf("creating network %s: user-defined networks are not there yet, use bridge, host or none: %w", req.Name, errdefs.ErrNotImplemented)
}

// Connect adds a network to a container.
func (s *Service) Connect(_ context.Context, ref string, req network.ConnectRequest) error {
	return s.changeMembers("connecting", "to", ref, req.Container)
}

// Disconnect takes a network from a container.
func (s *Service) Disconnect(_ context.Context, ref string, req network.DisconnectRequest) error {
	return s.changeMembers("disconnecting", "from", ref, req.Container)
}

func (s *Service) changeMembers(doing, word, ref, container string) error {
	n, err := s.find(ref)
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
func (s *Service) Remove(_ context.Context, ref string) error {
	n, err := s.find(ref)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s is a pre-defined network and cannot be removed: %w", n.name, errdefs.ErrPermissionDenied)
}
