package netlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Vxlan is an interface that carries Ethernet frames to other hosts in UDP packets.
type Vxlan struct {
	VNI   int
	Local netip.Addr
	Port  uint16
	MTU   int
}

// AddVxlan makes one, which is down yet. Packets are not fragmented.
func (c *Conn) AddVxlan(name string, v Vxlan) (Link, error) {
	a := nl.NewLinkAttrs()
	a.Name, a.MTU = name, v.MTU
	err := c.add(&nl.Vxlan{LinkAttrs: a, VxlanId: v.VNI, SrcAddr: v.Local.AsSlice(), Port: int(v.Port), Learning: true, UDPCSum: true}, "vxlan", name)
	if err != nil {
		return Link{}, err
	}
	return c.Link(name)
}

// Vxlan reads one; os.ErrNotExist if there is none of the name.
func (c *Conn) Vxlan(name string) (Link, Vxlan, error) {
	l, err := c.h.LinkByName(name)
	if err != nil {
		return Link{}, Vxlan{}, missing(name, err)
	}
	v, ok := l.(*nl.Vxlan)
	if !ok {
		return toLink(l), Vxlan{}, fmt.Errorf("network interface %s is a %s, not a vxlan: %w", name, l.Type(), os.ErrInvalid)
	}
	local, _ := netip.AddrFromSlice(v.SrcAddr)
	return toLink(l), Vxlan{VNI: v.VxlanId, Local: local.Unmap(), Port: uint16(v.Port), MTU: v.MTU}, nil
}

// Enslave makes an interface a bridge's port that does not pass on questions for the bridge's own addresses: on each host these
// are its own.
func (c *Conn) Enslave(index, bridge int) error {
	if err := c.h.LinkSetMasterByIndex(byIndex(index), bridge); err != nil {
		return fmt.Errorf("putting network interface %d on a bridge: %w", index, err)
	}
	if err := c.h.LinkSetBrNeighSuppress(byIndex(index), true); err != nil {
		return fmt.Errorf("setting up the bridge's port: %w", err)
	}
	return nil
}

// Flood has a vxlan interface send to a host what it does not know a host for. Once is enough.
func (c *Conn) Flood(index int, to netip.Addr) error {
	err := c.h.NeighAppend(&nl.Neigh{
		LinkIndex: index, Family: unix.AF_BRIDGE, State: nl.NUD_PERMANENT, Flags: nl.NTF_SELF, IP: to.AsSlice(), HardwareAddr: make(net.HardwareAddr, 6),
	})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("sending to host %s: %w", to, err)
	}
	return nil
}

// Way is how packets go to a host: from which address, and how large they may be.
func (c *Conn) Way(to netip.Addr) (from netip.Addr, mtu int, err error) {
	routes, err := c.h.RouteGet(to.AsSlice())
	if err != nil || len(routes) == 0 {
		return from, 0, fmt.Errorf("there is no way to host %s: %w", to, err)
	}
	from, _ = netip.AddrFromSlice(routes[0].Src)
	l, err := c.h.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return from, 0, err
	}
	return from.Unmap(), l.Attrs().MTU, nil
}

// Holder is the interface that has an address of this host; os.ErrNotExist if none has.
func (c *Conn) Holder(a netip.Addr) (Link, error) {
	all, err := c.h.AddrList(nil, unix.AF_UNSPEC)
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return Link{}, fmt.Errorf("listing addresses: %w", err)
	}
	for _, one := range all {
		if p, ok := toPrefix(one.IPNet); ok && p.Addr() == a {
			l, err := c.h.LinkByIndex(one.LinkIndex)
			if err != nil {
				return Link{}, err
			}
			return toLink(l), nil
		}
	}
	return Link{}, fmt.Errorf("address %s: %w", a, os.ErrNotExist)
}
