package publish

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Ports of SCTP are not reserved by gantry-net: many kernels have no sockets for it, and
// those that translate it need none. Who has which port is known here; what a program of
// the host has is not.

const sctp = "sctp"

// assign gives the ports of SCTP their numbers: the one asked for, the first free one of
// a range, or a free ephemeral one. The caller holds the lock.
func (p *Publisher) assign(ports []spec.Port, to spec.PortTarget) error {
	if p.rules == nil {
		for _, x := range ports {
			if x.Proto == sctp {
				return fmt.Errorf("publishing port %d/sctp: only packet rules can, which --iptables=false forbids: %w", x.ContainerPort, errdefs.ErrInvalidArgument)
			}
		}
		return nil
	}
	for i := range ports {
		x := &ports[i]
		if x.Proto != sctp || routed(*x, to) {
			continue
		}
		first, last, begin := x.HostPort, max(x.HostPort, x.HostPortEnd), x.HostPort
		if x.HostPort == 0 {
			first, last = ephemeral()
			begin = min(max(p.nextSCTP, first), last)
		}
		n, owner, ok := p.freeSCTP(x.HostIP, ports[:i], first, last, begin)
		if !ok {
			x.HostPort = last
			return &networks.PortTakenError{Port: *x, Owner: owner}
		}
		if x.HostPort == 0 {
			p.nextSCTP = n + 1
		}
		x.HostPort, x.HostPortEnd = n, 0
	}
	return nil
}

// freeSCTP finds a port from first to last, beginning at begin and going round, that
// neither a container nor one of the given ports has; else it tells who has the last one.
func (p *Publisher) freeSCTP(host netip.Addr, mine []spec.Port, first, last, begin uint16) (port uint16, owner string, ok bool) {
	held := map[uint16]string{}
	for id, all := range p.open {
		for _, m := range all {
			if m.Proto == sctp && overlap(m.Host, host) {
				held[m.Port] = id
			}
		}
	}
	for _, x := range mine {
		if x.Proto == sctp && overlap(x.HostIP, host) {
			held[x.HostPort] = "this one"
		}
	}
	count := int(last) - int(first) + 1
	for i := range count {
		n := first + uint16((int(begin)-int(first)+i)%count)
		if held[n] == "" {
			return n, "", true
		}
		owner = held[n]
	}
	return 0, owner, false
}

func overlap(a, b netip.Addr) bool {
	return !a.IsValid() || !b.IsValid() || a.IsUnspecified() || b.IsUnspecified() || a == b
}

// ephemeral is the kernel's range of ports for those who do not choose.
func ephemeral() (first, last uint16) {
	text, _ := netlink.ReadSysctl("net.ipv4.ip_local_port_range")
	if n, err := fmt.Sscan(strings.TrimSpace(text), &first, &last); err != nil || n != 2 || first == 0 || last < first {
		return 32768, 60999 // the kernel's default
	}
	return first, last
}
