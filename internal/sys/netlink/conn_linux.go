package netlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	nl "github.com/vishvananda/netlink"
	rtnl "github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Conn is a routing socket that stays in the namespace it was opened in.
type Conn struct {
	h *nl.Handle
	// own is for messages that the library cannot express.
	own map[int]*rtnl.SocketHandle
}

// Open makes a routing socket in ns, or in the caller's namespace if ns is nil.
func Open(ns *os.File) (*Conn, error) {
	at := netns.None()
	if ns != nil {
		at = netns.NsHandle(ns.Fd())
	}
	h, err := nl.NewHandleAt(at, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a routing socket: %w", err)
	}
	return &Conn{h: h, own: map[int]*rtnl.SocketHandle{}}, nil
}

// OpenForPairs is Open of the caller's namespace with what AddPair needs.
func OpenForPairs() (*Conn, error) { return OpenOwn(nil) }

// OpenOwn is Open with what is needed for messages that the library cannot express.
func OpenOwn(ns *os.File) (*Conn, error) {
	c, err := Open(ns)
	if err != nil {
		return nil, err
	}
	at := netns.None()
	if ns != nil {
		at = netns.NsHandle(ns.Fd())
	}
	s, err := rtnl.GetNetlinkSocketAt(at, netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("opening a routing socket: %w", err)
	}
	c.own[unix.NETLINK_ROUTE] = &rtnl.SocketHandle{Socket: s}
	return c, nil
}

// Close closes the sockets.
func (c *Conn) Close() {
	c.h.Close()
	for _, s := range c.own {
		s.Close()
	}
}

// Link is a network interface as far as this house cares.
type Link struct {
	Index, Master int
	Name, Kind    string
	Alias         string // the label that says whose it is
	MTU           int
	Up            bool
	MAC           net.HardwareAddr
}

func toLink(l nl.Link) Link {
	a := l.Attrs()
	return Link{Index: a.Index, Master: a.MasterIndex, Name: a.Name, Kind: l.Type(), Alias: a.Alias, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, MAC: a.HardwareAddr}
}

// Link finds an interface by name; os.ErrNotExist if there is none.
func (c *Conn) Link(name string) (Link, error) {
	l, err := c.h.LinkByName(name)
	if err != nil {
		return Link{}, missing(name, err)
	}
	return toLink(l), nil
}

// missing words why an interface was not found.
func missing(name string, err error) error {
	var none nl.LinkNotFoundError
	if errors.As(err, &none) {
		return fmt.Errorf("network interface %s: %w", name, os.ErrNotExist)
	}
	return fmt.Errorf("looking for network interface %s: %w", name, err)
}

// Links lists all interfaces of the namespace.
func (c *Conn) Links() ([]Link, error) {
	all, err := c.h.LinkList()
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return nil, fmt.Errorf("listing network interfaces: %w", err)
	}
	out := make([]Link, 0, len(all))
	for _, l := range all {
		out = append(out, toLink(l))
	}
	return out, nil
}

// AddBridge makes a bridge without spanning tree, which is down yet.
func (c *Conn) AddBridge(name string, mtu int, mac net.HardwareAddr) (Link, error) {
	a := nl.NewLinkAttrs()
	a.Name, a.MTU, a.HardwareAddr = name, mtu, mac
	if err := c.h.LinkAdd(&nl.Bridge{LinkAttrs: a}); err != nil {
		return Link{}, fmt.Errorf("making bridge %s: %w", name, err)
	}
	return c.Link(name)
}

// Delete removes an interface. One that is gone already is no error. For a veth it
// waits for RCU (tens of milliseconds): better let its namespace take it along.
func (c *Conn) Delete(l Link) error {
	err := c.h.LinkDel(&nl.GenericLink{LinkAttrs: nl.LinkAttrs{Index: l.Index, Name: l.Name}})
	if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("deleting network interface %s: %w", l.Name, err)
	}
	return nil
}

// SetUp brings an interface up.
func (c *Conn) SetUp(index int) error {
	if err := c.h.LinkSetUp(byIndex(index)); err != nil {
		return fmt.Errorf("bringing network interface %d up: %w", index, err)
	}
	return nil
}

// SetMTU changes an interface's largest packet.
func (c *Conn) SetMTU(index, mtu int) error {
	if err := c.h.LinkSetMTU(byIndex(index), mtu); err != nil {
		return fmt.Errorf("setting MTU %d: %w", mtu, err)
	}
	return nil
}

// SetMAC changes an interface's hardware address; a veth may be up meanwhile.
func (c *Conn) SetMAC(index int, mac net.HardwareAddr) error {
	if err := c.h.LinkSetHardwareAddr(byIndex(index), mac); err != nil {
		return fmt.Errorf("setting hardware address %s: %w", mac, err)
	}
	return nil
}

// AddAddress gives an interface an address; having it already is no error.
func (c *Conn) AddAddress(index int, p netip.Prefix) error {
	if err := c.h.AddrAdd(byIndex(index), address(p)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding address %s: %w", p, err)
	}
	return nil
}

// DeleteAddress takes an address away.
func (c *Conn) DeleteAddress(index int, p netip.Prefix) error {
	if err := c.h.AddrDel(byIndex(index), &nl.Addr{IPNet: ipNet(p)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("removing address %s: %w", p, err)
	}
	return nil
}

// Addresses lists the addresses of an interface, or of all with index 0, of both families; those that the kernel gives every
// interface (link-local ones) are left out.
func (c *Conn) Addresses(index int) ([]netip.Prefix, error) {
	var l nl.Link
	if index != 0 {
		l = byIndex(index)
	}
	all, err := c.h.AddrList(l, unix.AF_UNSPEC)
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	var out []netip.Prefix
	for _, a := range all {
		if p, ok := toPrefix(a.IPNet); ok && !(p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()) {
			out = append(out, p)
		}
	}
	return out, nil
}

// Routes lists the destinations of the namespace's main tables of both families, without default routes and those
// that the kernel makes for every interface.
func (c *Conn) Routes() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := c.h.RouteList(nil, family)
		if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
			return nil, fmt.Errorf("listing routes: %w", err)
		}
		for _, r := range all {
			p, ok := toPrefix(r.Dst)
			if ok && p.Bits() > 0 && !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsMulticast() {
				out = append(out, p.Masked())
			}
		}
	}
	return out, nil
}

// AddDefaultRoute sends everything else through gateway.
func (c *Conn) AddDefaultRoute(index int, gateway netip.Addr) error {
	if err := c.h.RouteAdd(defaultRoute(index, gateway)); err != nil {
		return fmt.Errorf("adding the default route through %s: %w", gateway, err)
	}
	return nil
}

// ForgetPort drops what connection tracking remembers of UDP flows to a local port,
// so that a new owner of the port gets the next packet. It acts on the caller's namespace.
func ForgetPort(port uint16) error {
	f := &nl.ConntrackFilter{}
	if err := errors.Join(f.AddProtocol(unix.IPPROTO_UDP), f.AddPort(nl.ConntrackOrigDstPort, port)); err != nil {
		return err
	}
	_, err := nl.ConntrackDeleteFilters(nl.ConntrackTable, unix.AF_INET, f)
	return err
}

// ForgetAddresses drops what connection tracking remembers of flows that begin or end at one of the addresses, as it is
// after translation. It acts on the caller's namespace.
func ForgetAddresses(addrs map[netip.Addr]bool) error {
	families := map[nl.InetFamily]bool{}
	for a := range addrs {
		if a.Is4() {
			families[unix.AF_INET] = true
		} else {
			families[unix.AF_INET6] = true
		}
	}
	var errs []error
	for f := range families {
		_, err := nl.ConntrackDeleteFilters(nl.ConntrackTable, f, flowsOf(addrs))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// flowsOf matches flows of addresses. It implements nl.CustomConntrackFilter.
type flowsOf map[netip.Addr]bool

func (f flowsOf) MatchConntrackFlow(flow *nl.ConntrackFlow) bool {
	for _, ip := range []net.IP{flow.Forward.SrcIP, flow.Reverse.SrcIP} {
		if a, ok := netip.AddrFromSlice(ip); ok && f[a.Unmap()] {
			return true
		}
	}
	return false
}

func byIndex(i int) nl.Link { return &nl.GenericLink{LinkAttrs: nl.LinkAttrs{Index: i}} }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones), ok
}

func broadcast(p netip.Prefix) net.IP {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return b[:]
}
