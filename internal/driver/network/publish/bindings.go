package publish

import (
	"net/netip"
	"strings"

	"github.com/gantry-engine/gantry/internal/driver/network/firewall"
	"github.com/gantry-engine/gantry/internal/netproto"
	"github.com/gantry-engine/gantry/internal/spec"
)

// binding is a port at one address of the host, or at all addresses of one family, and where it leads.
type binding struct {
	port    spec.Port // HostIP is always valid
	target  netip.Addr
	kernel  bool // the kernel's packet rules lead there: both are of one family
	routed  bool // it is open at the container's own address, and takes no port of the host
	request int  // index of what was asked for
}

// bindings are where ports are published. Who names no address has them at every address of the host, of both families, unless
// the network or the daemon says otherwise.
func (p *Publisher) bindings(ports []spec.Port, to spec.PortTarget) (out []binding) {
	for i, x := range ports {
		x.Proto = strings.ToLower(x.Proto)
		for _, host := range p.hosts(x.HostIP.Unmap(), to) {
			b := binding{port: x, request: i}
			b.port.HostIP = host
			own, other, routed := to.IPv4, to.IPv6, to.Routed4
			if host.Is6() {
				own, other, routed = to.IPv6, to.IPv4, to.Routed6
			}
			b.target, b.kernel, b.routed = own, own.IsValid(), own.IsValid() && routed
			if !own.IsValid() { // gantry-net carries what the kernel cannot translate
				b.target = other
			}
			if !b.target.IsValid() || !b.kernel && (!p.cfg.IPv6 || x.Proto == "sctp") {
				continue
			}
			if b.routed {
				b.port.HostPort, b.port.HostPortEnd = 0, 0
			}
			out = append(out, b)
		}
	}
	return out
}

// hosts are the addresses of the host that a port is published on, which asks for a certain one or for none in particular.
func (p *Publisher) hosts(asked netip.Addr, to spec.PortTarget) []netip.Addr {
	if asked.IsValid() {
		return []netip.Addr{asked}
	}
	four, six := to.HostIPv4, to.HostIPv6
	if !four.IsValid() && p.cfg.HostIP.Is4() {
		four = p.cfg.HostIP
	}
	if !six.IsValid() && p.cfg.HostIP.Is6() {
		six = p.cfg.HostIP
	}
	switch {
	case p.cfg.HostIP.Is6() && !four.IsValid(): // --ip names the one address there is
		return []netip.Addr{six}
	case !four.IsValid():
		four = netip.IPv4Unspecified()
	}
	if !six.IsValid() && four.IsUnspecified() {
		six = netip.IPv6Unspecified()
	}
	if !six.IsValid() {
		return []netip.Addr{four}
	}
	return []netip.Addr{four, six}
}

// want is one thing to be reserved, for one binding or for two that must have the same port.
type want struct {
	netproto.Want
	four, six int // indices of the bindings; -1: none
}

// wants are what gantry-net is to hold. Every address of both families is one thing: the port is the same.
func wants(bs []binding) (out []want) {
	for i, b := range bs {
		if b.routed {
			continue
		}
		w := want{four: -1, six: -1, Want: netproto.Want{
			Proto: b.port.Proto, Host: b.port.HostIP, Port: b.port.HostPort, End: b.port.HostPortEnd, Target: netip.AddrPortFrom(b.target, b.port.ContainerPort),
		}}
		if b.port.HostIP.Is4() {
			w.four = i
			out = append(out, w)
			continue
		}
		if n := len(out) - 1; n >= 0 && b.port.HostIP.IsUnspecified() && pairs(bs, out[n], b) {
			out[n].six, out[n].IPv6 = i, true
			continue
		}
		w.six = i
		out = append(out, w)
	}
	return out
}

// pairs tells whether a binding is the other family of a want for every address.
func pairs(bs []binding, w want, b binding) bool {
	if w.four < 0 || w.six >= 0 {
		return false
	}
	a := bs[w.four]
	same := a.request == b.request || a.port.HostPort != 0 && a.port.HostPort == b.port.HostPort && a.port.HostPortEnd == b.port.HostPortEnd
	return same && a.port.HostIP.IsUnspecified() && a.port.Proto == b.port.Proto && a.port.ContainerPort == b.port.ContainerPort
}

// mappings are the packet rules of bindings.
func mappings(bs []binding, to spec.PortTarget) (out []firewall.Mapping) {
	for _, b := range bs {
		if b.kernel {
			out = append(out, firewall.Mapping{
				Bridge: to.Interface, Proto: b.port.Proto, Host: b.port.HostIP, Port: b.port.HostPort, Target: netip.AddrPortFrom(b.target, b.port.ContainerPort),
			})
		}
	}
	return out
}

// portsOf are the ports as bound.
func portsOf(bs []binding) []spec.Port {
	out := make([]spec.Port, len(bs))
	for i, b := range bs {
		out[i] = b.port
	}
	return out
}
