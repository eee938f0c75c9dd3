package netlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AddLoop makes a veth pair with both ends in the namespace, up: what leaves by out comes
// back by in. Neither resolves neighbours; both have the same hardware address, so that
// every packet is for the other end. They have no addresses.
func (c *Conn) AddLoop(out, in string, mac net.HardwareAddr) error {
	const largest = 65535 // nothing is to be fragmented here
	a := nl.NewLinkAttrs()
	a.Name, a.MTU, a.HardwareAddr = out, largest, mac
	pair := &nl.Veth{LinkAttrs: a, PeerName: in, PeerHardwareAddr: mac, PeerMTU: largest}
	if err := c.h.LinkAdd(pair); err != nil {
		return fmt.Errorf("making veth pair %s and %s: %w", out, in, err)
	}
	err := c.openLoop(out, in)
	if err != nil {
		err = errors.Join(err, c.h.LinkDel(pair))
	}
	return err
}

func (c *Conn) openLoop(out, in string) error {
	for _, name := range []string{out, in} {
		if err := WriteSysctl("net/ipv6/conf/"+name+"/addr_gen_mode", "1"); err != nil && ipv6() { // none
			return err
		}
		l, err := c.h.LinkByName(name)
		if err != nil {
			return missing(name, err)
		}
		if err := errors.Join(c.h.LinkSetARPOff(l), c.h.LinkSetUp(l)); err != nil {
			return fmt.Errorf("bringing network interface %s up: %w", name, err)
		}
	}
	return nil
}

// AddHostAddress gives an interface an address that nobody outside the host can use, being of 127.0.0.0/8. Without
// any address the kernel takes no packet from an interface whose source it is to check (rp_filter).
func (c *Conn) AddHostAddress(iface string, a netip.Addr) error {
	l, err := c.h.LinkByName(iface)
	if err != nil {
		return missing(iface, err)
	}
	if err := c.h.AddrAdd(l, &nl.Addr{IPNet: ipNet(netip.PrefixFrom(a, a.BitLen())), Scope: int(nl.SCOPE_HOST)}); err != nil {
		return fmt.Errorf("giving interface %s the address %s: %w", iface, a, err)
	}
	return nil
}

// AddLinkRoute makes a route straight through an interface; one that is there is no error.
// Table 0 is the main one.
func (c *Conn) AddLinkRoute(iface string, to netip.Prefix, table int) error {
	l, err := c.h.LinkByName(iface)
	if err != nil {
		return missing(iface, err)
	}
	r := &nl.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(to), Table: table, Scope: nl.SCOPE_LINK}
	if err := c.h.RouteReplace(r); err != nil {
		return fmt.Errorf("making route %s through %s: %w", to, iface, err)
	}
	return nil
}

// MarkRule is a rule of routing: what the host asks about packets with a mark, its own
// and those whose source is checked by packet rules (fib saddr . mark, -m rpfilter
// --validmark), is looked up in a table of its own. Packets on their way through the
// host are not asked for this way.
type MarkRule struct {
	Mark            uint32
	Table, Priority int
}

func (m MarkRule) rules() (out []*nl.Rule) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		r := nl.NewRule()
		r.Family, r.IifName, r.Mark, r.Table, r.Priority = family, "lo", m.Mark, m.Table, m.Priority
		if family == unix.AF_INET || ipv6() {
			out = append(out, r)
		}
	}
	return out
}

// AddMarkRule adds the rule to both families; one that is there is no error.
func (c *Conn) AddMarkRule(m MarkRule) error {
	for _, r := range m.rules() {
		if err := c.h.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("adding a rule of routing for mark %#x: %w", m.Mark, err)
		}
	}
	return nil
}

// DeleteMarkRule takes the rule away; one that is not there is no error.
func (c *Conn) DeleteMarkRule(m MarkRule) error {
	for _, r := range m.rules() {
		if err := c.h.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("removing the rule of routing for mark %#x: %w", m.Mark, err)
		}
	}
	return nil
}
