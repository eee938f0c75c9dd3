// Package networking reads what users say of a container's networks and ports.
package networking

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Endpoints are a container's endpoint settings by network: what the request
// says, and the network that the network mode names.
func Endpoints(config *container.Config, hc *container.HostConfig, nc *network.NetworkingConfig) (map[string]*network.EndpointSettings, error) {
	out := map[string]*network.EndpointSettings{}
	if config.NetworkDisabled {
		hc.NetworkMode = network.NetworkNone
	}
	if hc.NetworkMode.IsContainer() {
		if nc != nil && len(nc.EndpointsConfig) > 0 {
			return nil, classed.Invalid("conflicting options: networking configuration and the container type network mode")
		}
		return out, nil
	}
	if nc != nil {
		for name, ep := range nc.EndpointsConfig {
			if name == network.NetworkDefault {
				name = network.NetworkBridge
			}
			out[name] = ep.Copy()
			if out[name] == nil {
				out[name] = &network.EndpointSettings{}
			}
		}
	}
	mode := string(hc.NetworkMode)
	if out[mode] == nil {
		out[mode] = &network.EndpointSettings{}
	}
	for _, name := range slices.Sorted(maps.Keys(out)) {
		if err := CheckEndpoint(name, out[name]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func predefined(name string) bool {
	return name == network.NetworkBridge || name == network.NetworkHost || name == network.NetworkNone
}

// CheckEndpoint tells what is wrong with a container's settings for a network by themselves.
func CheckEndpoint(name string, ep *network.EndpointSettings) error {
	for _, l := range ep.Links {
		if _, _, err := ParseLink(l); err != nil {
			return err
		}
	}
	if ip := ep.IPAMConfig; ip != nil {
		if ip.IPv4Address.IsValid() && !ip.IPv4Address.Is4() {
			return classed.Invalid("invalid endpoint settings:\ninvalid IPv4 address: %s", ip.IPv4Address)
		}
		if ip.IPv6Address.IsValid() && !ip.IPv6Address.Is6() {
			return classed.Invalid("invalid endpoint settings:\ninvalid IPv6 address: %s", ip.IPv6Address)
		}
	}
	if n := len(ep.MacAddress); n != 0 && n != 6 {
		return classed.Invalid("invalid MAC address: %s", ep.MacAddress)
	}
	if !predefined(name) {
		return nil
	}
	bad := func(text string) error {
		return classed.Invalid("invalid config for network %s: invalid endpoint settings:\n%s", name, text)
	}
	if len(ep.Aliases) > 0 {
		return bad("network-scoped aliases are only supported for user-defined networks")
	}
	if ip := ep.IPAMConfig; ip != nil && (ip.IPv4Address.IsValid() || ip.IPv6Address.IsValid()) {
		return bad("user specified IP address is supported on user defined networks only")
	}
	if len(ep.MacAddress) > 0 && name != network.NetworkBridge {
		return classed.Invalid("conflicting options: mac-address and the network mode")
	}
	return nil
}

// ParseLink reads "container:alias"; without an alias the container's name is it.
func ParseLink(s string) (target, alias string, err error) {
	target, alias, given := strings.Cut(s, ":")
	if !given {
		alias = target[strings.LastIndexByte(target, '/')+1:]
	} else if strings.HasPrefix(alias, "/") { // as inspect of old engines wrote it: /web:/app/db
		alias = alias[strings.LastIndexByte(alias, '/')+1:]
	}
	if target == "" || alias == "" || strings.ContainsAny(alias, ": \t\n") {
		return "", "", classed.Invalid("bad format for links: %s: container:alias is needed", s)
	}
	return strings.TrimPrefix(target, "/"), alias, nil
}

// SaysNothing tells of settings that ask for nothing in particular.
func SaysNothing(ep *network.EndpointSettings) bool {
	return ep == nil || ep.IPAMConfig == nil && len(ep.Links) == 0 && len(ep.Aliases) == 0 && len(ep.DriverOpts) == 0 && len(ep.MacAddress) == 0 && ep.GwPriority == 0
}

// Ports turns exposed and published ports into requests to the network.
func Ports(config *container.Config, hc *container.HostConfig) ([]spec.Port, error) {
	var out []spec.Port
	for port, bindings := range hc.PortBindings {
		switch port.Proto() {
		case network.TCP, network.UDP, network.SCTP:
		default:
			return nil, classed.Invalid("invalid port specification: %q: the protocol is not tcp, udp or sctp", port)
		}
		for _, b := range bindings {
			p := spec.Port{Proto: string(port.Proto()), ContainerPort: port.Num(), HostIP: b.HostIP}
			if b.HostPort != "" {
				r, err := network.ParsePortRange(b.HostPort)
				if err != nil {
					return nil, classed.Invalid("invalid port specification: %q", b.HostPort)
				}
				p.HostPort = r.Start()
				if r.End() != r.Start() {
					p.HostPortEnd = r.End()
				}
			}
			out = append(out, p)
		}
		if len(bindings) == 0 {
			out = append(out, spec.Port{Proto: string(port.Proto()), ContainerPort: port.Num()})
		}
	}
	if hc.PublishAllPorts {
		for port := range config.ExposedPorts {
			if _, bound := hc.PortBindings[port]; !bound {
				out = append(out, spec.Port{Proto: string(port.Proto()), ContainerPort: port.Num()})
			}
		}
	}
	slices.SortFunc(out, func(a, b spec.Port) int {
		if a.ContainerPort != b.ContainerPort {
			return int(a.ContainerPort) - int(b.ContainerPort)
		}
		return strings.Compare(a.Proto+a.HostIP.String()+strconv.Itoa(int(a.HostPort)), b.Proto+b.HostIP.String()+strconv.Itoa(int(b.HostPort)))
	})
	return out, nil
}
