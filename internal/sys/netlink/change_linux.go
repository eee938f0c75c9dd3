package netlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	nl "github.com/vishvananda/netlink"
	rtnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Label gives an interface its final name and a text that says whose it is, and brings it up, in one step. It needs OpenForPairs.
func (c *Conn) Label(index int, name, text string) error {
	req := rtnl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := rtnl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(index), unix.IFF_UP, unix.IFF_UP
	req.AddData(msg)
	req.AddData(rtnl.NewRtAttr(unix.IFLA_IFNAME, rtnl.ZeroTerminated(name)))
	req.AddData(rtnl.NewRtAttr(unix.IFLA_IFALIAS, []byte(text)))
	if err := c.do(req); err != nil {
		return fmt.Errorf("naming network interface %s: %w", name, err)
	}
	return nil
}

// Retire takes an interface down and gives it another name and label, so that it
// may be deleted later. It needs OpenForPairs.
func (c *Conn) Retire(index int, name, text string) error {
	if err := c.h.LinkSetDown(byIndex(index)); err != nil { // a name changes only while it is down
		return fmt.Errorf("taking network interface %d down: %w", index, err)
	}
	req := rtnl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := rtnl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(rtnl.NewRtAttr(unix.IFLA_IFNAME, rtnl.ZeroTerminated(name)))
	req.AddData(rtnl.NewRtAttr(unix.IFLA_IFALIAS, []byte(text)))
	if err := c.do(req); err != nil {
		return fmt.Errorf("renaming network interface %d: %w", index, err)
	}
	return nil
}

// SetDown takes an interface down.
func (c *Conn) SetDown(index int) error {
	if err := c.h.LinkSetDown(byIndex(index)); err != nil {
		return fmt.Errorf("taking network interface %d down: %w", index, err)
	}
	return nil
}

// Rename changes an interface's name; it must be down.
func (c *Conn) Rename(index int, name string) error {
	if err := c.h.LinkSetName(byIndex(index), name); err != nil {
		return fmt.Errorf("naming network interface %s: %w", name, err)
	}
	return nil
}

// Discard moves an interface of this namespace into one of its own that ends at once: it is gone for everybody, while
// the kernel takes its time. One that is gone already is no error.
func (c *Conn) Discard(l Link) error {
	grave, err := NewNamespace(nil)
	if err != nil {
		return err
	}
	defer grave.Close()
	err = c.h.LinkSetNsFd(byIndex(l.Index), int(grave.Fd()))
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("taking network interface %s away: %w", l.Name, err)
	}
	return nil
}

// MoveTo moves an interface into another namespace, under another name, in one message: each renaming by itself waits for
// RCU. The interface is down then, without addresses. It needs OpenForPairs or OpenOwn.
func (c *Conn) MoveTo(index int, ns *os.File, name string) error {
	req := rtnl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := rtnl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(rtnl.NewRtAttr(unix.IFLA_NET_NS_FD, rtnl.Uint32Attr(uint32(ns.Fd()))))
	req.AddData(rtnl.NewRtAttr(unix.IFLA_IFNAME, rtnl.ZeroTerminated(name)))
	if err := c.do(req); err != nil {
		return fmt.Errorf("moving a network interface as %s into a container: %w", name, err)
	}
	return nil
}

// ReplaceDefaultRoute makes the default route of the gateway's family lead through it, at the interface.
func (c *Conn) ReplaceDefaultRoute(index int, gateway netip.Addr) error {
	if err := c.h.RouteReplace(defaultRoute(index, gateway)); err != nil {
		return fmt.Errorf("setting the default route through %s: %w", gateway, err)
	}
	return nil
}

// DeleteDefaultRoutes takes all default routes of a family away.
func (c *Conn) DeleteDefaultRoutes(ipv6 bool) error {
	f := unix.AF_INET
	if ipv6 {
		f = unix.AF_INET6
	}
	all, err := c.h.RouteList(nil, f)
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return fmt.Errorf("listing routes: %w", err)
	}
	for _, r := range all {
		if p, ok := toPrefix(r.Dst); r.Dst != nil && (!ok || p.Bits() != 0) {
			continue
		}
		if r.Protocol == unix.RTPROT_KERNEL || r.Protocol == unix.RTPROT_RA {
			continue
		}
		if err := c.h.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("removing a default route: %w", err)
		}
	}
	return nil
}

// AddRoute sends packets for a subnet through a gateway or, if that is invalid, straight to the interface.
func (c *Conn) AddRoute(index int, to netip.Prefix, gateway netip.Addr) error {
	r := &nl.Route{LinkIndex: index, Dst: ipNet(to.Masked())}
	if gateway.IsValid() {
		r.Gw = gateway.AsSlice()
	} else {
		r.Scope = nl.SCOPE_LINK
	}
	if err := c.h.RouteReplace(r); err != nil {
		return fmt.Errorf("adding a route to %s: %w", to, err)
	}
	return nil
}

// defaultRoute leads through a gateway or, if that is the unspecified address, straight to the interface.
func defaultRoute(index int, gateway netip.Addr) *nl.Route {
	r := &nl.Route{LinkIndex: index, Gw: gateway.AsSlice(), Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}
	if gateway.Is6() {
		r.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	if gateway.IsUnspecified() {
		r.Gw, r.Scope = nil, nl.SCOPE_LINK
	}
	return r
}

func address(p netip.Prefix) *nl.Addr {
	a := &nl.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // addresses are given out by one hand: nobody else has them
	} else if p.Bits() < 31 {
		a.Broadcast = broadcast(p)
	}
	return a
}
