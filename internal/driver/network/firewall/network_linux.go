package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
)

// Mode is how one address family of a network meets the world outside it
// (com.docker.network.bridge.gateway_mode_ipv4 and …_ipv6).
type Mode string

const (
	// NAT lets outsiders in through published ports of the host's addresses only. The
	// empty mode means the same.
	NAT Mode = "nat"
	// NATUnprotected is NAT whose containers' own addresses can be reached too, at all
	// ports, by hosts that have a route there. Other networks of the engine stay out.
	NATUnprotected Mode = "nat-unprotected"
	// Routed translates nothing: outsiders and other networks reach the ports that are
	// open (Mapping) and ICMP echo at the containers' own addresses.
	Routed Mode = "routed"
	// Isolated lets nobody in or out, the host included.
	Isolated Mode = "isolated"
)

// Network is a bridge of the engine, as the packet rules see it.
type Network struct {
	Bridge       string         // interface
	V4, V6       []netip.Prefix // the containers' subnets; none switches the family off
	Mode4, Mode6 Mode
	// Masquerade hides containers behind the host's address in the modes NAT and
	// NATUnprotected; HostIPv4 and HostIPv6, where valid, are then the addresses to use.
	Masquerade         bool
	HostIPv4, HostIPv6 netip.Addr
	// ICC lets containers of the network talk to each other. It matters where the
	// kernel passes bridged packets through the packet rules (br_netfilter).
	ICC bool
	// Internal lets nobody in or out but the host.
	Internal bool
	// Trusted are interfaces of the host whose packets reach published ports at the
	// containers' own addresses in mode NAT.
	Trusted []string
}

// Mapping is one published port.
type Mapping struct {
	// Bridge names the network; empty finds it by the target's address.
	Bridge string
	Proto  string // "tcp", "udp" or "sctp"
	// Host and Port are where the host takes connections; an unspecified or invalid
	// Host is every address of the target's family. In mode Routed both are ignored.
	Host   netip.Addr
	Port   uint16
	Target netip.AddrPort
}

func (m Mapping) String() string {
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(m.host(), m.Port), m.Proto)
}

// host is the address to listen on, in the target's family.
func (m Mapping) host() netip.Addr {
	switch {
	case m.Host.IsValid() && !m.Host.IsUnspecified():
		return m.Host.Unmap()
	case m.Target.Addr().Unmap().Is4():
		return netip.IPv4Unspecified()
	default:
		return netip.IPv6Unspecified()
	}
}

// maxName is the kernel's longest interface name (IFNAMSIZ with its zero).
const maxName = 15

// interfaceName tells whether the kernel takes a name for an interface (dev_valid_name).
func interfaceName(name string) bool {
	if name == "" || len(name) > maxName || name == "." || name == ".." {
		return false
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || c == '/' || c == ':' {
			return false
		}
	}
	return true
}

// check refuses what the rules could not express. The error's class is invalid argument.
func (n Network) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("packet rules of network %s: %s: %w", strconv.Quote(n.Bridge), fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
	}
	for _, name := range append([]string{n.Bridge}, n.Trusted...) {
		if !interfaceName(name) {
			return bad("%q is not the name of an interface: 1 to %d printable characters without / and : are needed", name, maxName)
		}
	}
	for _, m := range []Mode{n.Mode4, n.Mode6} {
		if !slices.Contains([]Mode{"", NAT, NATUnprotected, Routed, Isolated}, m) {
			return bad("unknown gateway mode %q: nat, nat-unprotected, routed or isolated is needed", m)
		}
		if m == Isolated && !n.Internal {
			return bad("gateway mode isolated is for internal networks only: add --internal")
		}
	}
	for _, p := range n.V4 {
		if !p.IsValid() || !p.Addr().Is4() {
			return bad("%s is not a subnet of IPv4", p)
		}
	}
	for _, p := range n.V6 {
		if !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() {
			return bad("%s is not a subnet of IPv6", p)
		}
	}
	if a := n.HostIPv4; a.IsValid() && (!a.Is4() || a.IsUnspecified()) {
		return bad("%s is not an address of IPv4 to send from", a)
	}
	if a := n.HostIPv6; a.IsValid() && (!a.Is6() || a.IsUnspecified()) {
		return bad("%s is not an address of IPv6 to send from", a)
	}
	return nil
}

// side is one address family of a network.
type side struct {
	subnets []netip.Prefix
	mode    Mode
	sendAs  netip.Addr
}

func (n Network) side(f *family) side {
	s := side{n.V4, n.Mode4, n.HostIPv4}
	if f == ip6 {
		s = side{n.V6, n.Mode6, n.HostIPv6}
	}
	if s.mode == "" {
		s.mode = NAT
	}
	return s
}

// owns tells whether an address is one of the network's containers'.
func (n Network) owns(a netip.Addr) bool {
	within := func(p netip.Prefix) bool { return p.Contains(a) }
	return slices.ContainsFunc(n.V4, within) || slices.ContainsFunc(n.V6, within)
}
