//go:build linux

package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/plugin"
	"github.com/gantry-engine/gantry/internal/spec"
)

// The protocol's messages, as far as they are used here.
type (
	networkID  struct{ NetworkID string }
	endpointID struct{ NetworkID, EndpointID string }

	ipData struct {
		AddressSpace, Pool, Gateway string
		AuxAddresses                map[string]string
	}
	createNetwork struct {
		NetworkID          string
		Options            map[string]any
		IPv4Data, IPv6Data []ipData
	}
	iface          struct{ Address, AddressIPv6, MacAddress string }
	createEndpoint struct {
		NetworkID, EndpointID string
		Interface             iface
		Options               map[string]any
	}
	created struct{ Interface *iface }
	join    struct {
		NetworkID, EndpointID, SandboxKey string
		Options                           map[string]any
	}
	joined struct {
		InterfaceName         *struct{ SrcName, DstPrefix, DstName string }
		Gateway, GatewayIPv6  string
		StaticRoutes          []staticRoute
		DisableGatewayService bool // there is no service of gateways to disable: a network that names none has none
	}
	staticRoute struct {
		Destination, NextHop string
		RouteType            int // 0 by the next hop, 1 connected
	}
)

// maxRoutes is how many routes a plugin may give a container.
const maxRoutes = 1024

// programPorts asks a plugin to publish ports.
type programPorts struct {
	NetworkID, EndpointID string
	Options               map[string]any
}

// transports are the protocols' numbers.
var transports = map[string]int{"tcp": 6, "udp": 17, "sctp": 132}

func program(network, endpoint string, ports []spec.Port) programPorts {
	type exposed struct {
		Proto int
		Port  uint16
	}
	type binding struct {
		Proto                 int
		IP                    string
		Port                  uint16
		HostIP                string
		HostPort, HostPortEnd uint16
	}
	var open []exposed
	var bound []binding
	for _, p := range ports {
		b := binding{Proto: transports[p.Proto], Port: p.ContainerPort, HostPort: p.HostPort, HostPortEnd: max(p.HostPort, p.HostPortEnd)}
		if p.HostIP.IsValid() {
			b.HostIP = p.HostIP.String()
		}
		open, bound = append(open, exposed{b.Proto, b.Port}), append(bound, b)
	}
	return programPorts{network, endpoint, map[string]any{"com.docker.network.portmap": bound, "com.docker.network.endpoint.exposedports": open}}
}

// poolsOf are a network's subnets of one family, as plugins read them.
func poolsOf(n *spec.Network, six bool) []ipData {
	out := []ipData{}
	for _, p := range n.Pools {
		if p.Subnet.Addr().Is6() != six {
			continue
		}
		d := ipData{Pool: p.Subnet.String(), AuxAddresses: map[string]string{}}
		if p.Gateway.IsValid() {
			d.Gateway = netip.PrefixFrom(p.Gateway, p.Subnet.Bits()).String()
		}
		for name, a := range p.Aux {
			d.AuxAddresses[name] = netip.PrefixFrom(a, p.Subnet.Bits()).String()
		}
		out = append(out, d)
	}
	return out
}

func text(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// merge adds to an endpoint what the plugin chose. What was given to it, it may not choose again.
func (i *iface) merge(ep *spec.Endpoint) error {
	if i == nil {
		return nil
	}
	for _, f := range []struct {
		what, chosen string
		six          bool
		to           *netip.Prefix
	}{{"IP address", i.Address, false, &ep.IPv4}, {"IPv6 address", i.AddressIPv6, true, &ep.IPv6}} {
		if f.chosen == "" {
			continue
		}
		if f.to.IsValid() {
			return fmt.Errorf("endpoint interface %s present (%s). Cannot be modified with %s: %w", f.what, f.to, clip(f.chosen), errdefs.ErrInternal)
		}
		p, err := netip.ParsePrefix(f.chosen)
		if err != nil || p.Addr().Is6() != f.six || p.Addr().IsUnspecified() {
			return fmt.Errorf("%q is no %s with a prefix length: %w", clip(f.chosen), f.what, errdefs.ErrInternal)
		}
		*f.to = p
	}
	if i.MacAddress == "" {
		return nil
	}
	if ep.MAC != "" {
		return fmt.Errorf("endpoint interface MAC address present (%s). Cannot be modified with %s: %w", ep.MAC, clip(i.MacAddress), errdefs.ErrInternal)
	}
	mac, err := net.ParseMAC(i.MacAddress)
	if err != nil || len(mac) != 6 {
		return fmt.Errorf("%q is no hardware address: %w", clip(i.MacAddress), errdefs.ErrInternal)
	}
	ep.MAC = mac.String()
	return nil
}

// gateways reads a join's gateways.
func (j *joined) gateways(ep *spec.Endpoint) error {
	for _, f := range []struct {
		text string
		six  bool
		to   *netip.Addr
	}{{j.Gateway, false, &ep.Gateway4}, {j.GatewayIPv6, true, &ep.Gateway6}} {
		if f.text == "" {
			continue
		}
		a, err := netip.ParseAddr(f.text)
		if err != nil || a.Is6() != f.six || a.IsUnspecified() {
			return fmt.Errorf("gateway %q is no address of its family: %w", clip(f.text), errdefs.ErrInternal)
		}
		*f.to = a
	}
	return nil
}

// route is a static route, read.
type route struct {
	to  netip.Prefix
	via netip.Addr // invalid: connected
}

func (j *joined) routes() ([]route, error) {
	if len(j.StaticRoutes) > maxRoutes {
		return nil, fmt.Errorf("%d static routes, at most %d are taken: %w", len(j.StaticRoutes), maxRoutes, errdefs.ErrInternal)
	}
	var out []route
	for _, r := range j.StaticRoutes {
		to, err := netip.ParsePrefix(r.Destination)
		if err != nil {
			return nil, fmt.Errorf("static route to %q: a subnet is needed: %w", clip(r.Destination), errdefs.ErrInternal)
		}
		one := route{to: to.Masked()}
		switch r.RouteType {
		case 0:
			if one.via, err = netip.ParseAddr(r.NextHop); err != nil || one.via.Is6() != to.Addr().Is6() {
				return nil, fmt.Errorf("static route to %s by %q: an address of its family is needed: %w", to, clip(r.NextHop), errdefs.ErrInternal)
			}
		case 1:
		default:
			return nil, fmt.Errorf("static route to %s of type %d: 0 or 1 is needed: %w", to, r.RouteType, errdefs.ErrInternal)
		}
		out = append(out, one)
	}
	return out, nil
}

// validInterface tells whether a name can be an interface's; the kernel has the last word.
func validInterface(name string) bool {
	return name != "" && len(name) <= 15 && name != "." && name != ".." && name != "lo" && !strings.ContainsAny(name, "/: \t\n%\x00")
}

func clip(s string) string { return s[:min(len(s), 100)] }

// leave ends an endpoint, whatever of it there is.
func leave(ctx context.Context, p *plugin.Plugin, network, endpoint string) error {
	id := endpointID{network, endpoint}
	if err := p.Call(ctx, "NetworkDriver.RevokeExternalConnectivity", id, nil); !heard(err) && !errors.Is(err, plugin.ErrNotImplemented) {
		return err
	}
	if err := p.Call(ctx, "NetworkDriver.Leave", id, nil); !heard(err) {
		return err
	}
	return p.Call(ctx, "NetworkDriver.DeleteEndpoint", id, nil)
}

// heard tells whether a plugin has answered, be it with an error: asking it again would change nothing.
func heard(err error) bool { return err == nil || errdefs.IsInternal(err) }
