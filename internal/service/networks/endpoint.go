package networks

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/spec"
)

// Options of an endpoint, as Docker names them.
const (
	optInterface = "com.docker.network.endpoint.ifname"
	optSysctls   = "com.docker.network.endpoint.sysctls"
)

// Options of a bridge network that say where its containers' ports are published.
const (
	optHostIPv4 = "com.docker.network.bridge.host_binding_ipv4"
	optHostIPv6 = "com.docker.network.bridge.host_binding_ipv6"
	optGateway4 = "com.docker.network.bridge.gateway_mode_ipv4"
	optGateway6 = "com.docker.network.bridge.gateway_mode_ipv6"
)

// alone tells of a network that suffers no other beside it.
func alone(n *known) bool { return n.Driver == "host" || n.Driver == "null" }

// checkEndpoint tells what a network does not give.
func checkEndpoint(n *known, e spec.EndpointRequest) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("invalid config for network %s: invalid endpoint settings:\n%s: %w", n.Name, fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
	}
	if n.builtin {
		if e.IPv4.IsValid() || e.IPv6.IsValid() || len(e.LinkLocal) > 0 {
			return bad("user specified IP address is supported on user defined networks only")
		}
		if len(e.Aliases) > 0 {
			return bad("network-scoped aliases are only supported for user-defined networks")
		}
		return nil
	}
	for _, a := range addresses(e) {
		in := slices.IndexFunc(n.Pools, func(p spec.Pool) bool { return p.Subnet.Contains(a) })
		switch {
		case a.IsUnspecified() || a.IsLoopback() || a.IsMulticast():
			return bad("invalid IP address %s", a)
		case in < 0 && len(n.Pools) > 0:
			return bad("no configured subnet contains IP address %s", a)
		case in >= 0 && n.Pools[in].Chosen:
			return bad("user specified IP address is supported only when connecting to networks with user configured subnets")
		}
	}
	for _, a := range e.LinkLocal {
		if !a.IsLinkLocalUnicast() {
			return bad("invalid link-local IP address %s", a)
		}
	}
	return nil
}

// addresses are those that a request names.
func addresses(e spec.EndpointRequest) (out []netip.Addr) {
	for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// interfaceName is the endpoint's interface in the container: the one asked for, or the first free eth.
func interfaceName(eps []spec.Endpoint, options map[string]string) (string, error) {
	used := func(name string) bool {
		return slices.ContainsFunc(eps, func(ep spec.Endpoint) bool { return ep.Interface == name })
	}
	if name, ok := options[optInterface]; ok {
		if len(name) == 0 || len(name) > 15 || strings.ContainsAny(name, "/: \t\n%") || name == "." || name == ".." || name == "lo" {
			return "", fmt.Errorf("invalid interface name %q (%s): 1 to 15 characters without spaces, slashes, colons and percent signs are needed: %w", name, optInterface, errdefs.ErrInvalidArgument)
		}
		if used(name) {
			return "", fmt.Errorf("interface name %q (%s) is that of another network of the container: %w", name, optInterface, errdefs.ErrInvalidArgument)
		}
		return name, nil
	}
	for i := 0; ; i++ {
		if name := fmt.Sprintf("eth%d", i); !used(name) {
			return name, nil
		}
	}
}

// endpointSysctls adds to the container's settings those of the endpoint's interface.
func endpointSysctls(options map[string]string, iface string, all map[string]string) (map[string]string, error) {
	text := options[optSysctls]
	if text == "" {
		return all, nil
	}
	out := map[string]string{}
	for k, v := range all {
		out[k] = v
	}
	for _, one := range strings.Split(text, ",") {
		k, v, ok := strings.Cut(strings.TrimSpace(one), "=")
		parts := strings.SplitN(k, ".", 5)
		if !ok || len(parts) != 5 || parts[0] != "net" || !slices.Contains([]string{"ipv4", "ipv6", "mpls"}, parts[1]) || parts[3] != "IFNAME" {
			return nil, fmt.Errorf("invalid per-interface sysctl %q (%s): net.ipv4.conf.IFNAME.setting=value is needed: %w", one, optSysctls, errdefs.ErrInvalidArgument)
		}
		out[strings.Join([]string{"net", parts[1], parts[2], iface, parts[4]}, "/")] = v
	}
	return out, nil
}

// namesOf are the names that others on the network know the container by, the one for reverse look-ups first. The
// predefined networks have no names.
func namesOf(n *known, want spec.EndpointRequest, req spec.SandboxRequest) []string {
	if n.builtin {
		return nil
	}
	out := []string{}
	for _, name := range append(append([]string{req.Name}, want.Aliases...), req.Container[:min(12, len(req.Container))], req.Hostname) {
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// gateways are the endpoints that give the default routes: of those that lead out the one with the highest priority,
// among equals the first by the network's name.
func gateways(eps []spec.Endpoint) (via4, via6 *spec.Endpoint) {
	before := func(a, b *spec.Endpoint) bool {
		return b == nil || a.GwPriority > b.GwPriority || a.GwPriority == b.GwPriority && a.NetworkName < b.NetworkName
	}
	for i := range eps {
		ep := &eps[i]
		if ep.Gateway4.IsValid() && before(ep, via4) {
			via4 = ep
		}
		if ep.Gateway6.IsValid() && before(ep, via6) {
			via6 = ep
		}
	}
	return via4, via6
}

// target is the endpoint that published ports lead to, nil if none leads out: that of the default route.
func (s *sandboxes) target(eps []spec.Endpoint) (spec.PortTarget, *spec.Endpoint) {
	via4, via6 := gateways(eps)
	ep := via4
	if ep == nil {
		ep = via6
	}
	if ep == nil {
		return spec.PortTarget{}, nil
	}
	n, to := s.nets.byID(ep.NetworkID), spec.PortTarget{Interface: ep.HostInterface}
	if to.Interface == "" && ep.Driver == "bridge" && n != nil { // recorded before it was noted
		to.Interface = n.Options[bridgeName]
	}
	if to.Interface == "" {
		return spec.PortTarget{}, nil
	}
	if via4 == ep {
		to.IPv4 = ep.IPv4.Addr()
	}
	if via6 == ep {
		to.IPv6 = ep.IPv6.Addr()
	}
	if n != nil {
		to.HostIPv4, _ = netip.ParseAddr(n.Options[optHostIPv4])
		to.HostIPv6, _ = netip.ParseAddr(n.Options[optHostIPv6])
		to.Routed4, to.Routed6 = n.Options[optGateway4] == "routed", n.Options[optGateway6] == "routed"
	}
	return to, ep
}
