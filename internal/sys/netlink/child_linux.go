package netlink

import (
	"errors"
	"fmt"
	"net"
	"os"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Child is an interface that stands on another one, its parent, and is born in a container's namespace under its final name.
type Child struct {
	Parent int      // interface index in the socket's namespace
	NS     *os.File // where the child goes
	Name   string
	MAC    net.HardwareAddr // nil leaves it to the kernel; ipvlan has its parent's
	MTU    int              // 0 is the parent's
}

// MacvlanMode says how macvlan children of one parent see each other.
type MacvlanMode = nl.MacvlanMode

// The modes of macvlan.
const (
	MacvlanPrivate  = nl.MACVLAN_MODE_PRIVATE
	MacvlanVEPA     = nl.MACVLAN_MODE_VEPA
	MacvlanBridge   = nl.MACVLAN_MODE_BRIDGE
	MacvlanPassthru = nl.MACVLAN_MODE_PASSTHRU
)

// IpvlanMode is the layer at which ipvlan children share their parent.
type IpvlanMode = nl.IPVlanMode

// The modes of ipvlan.
const (
	IpvlanL2  = nl.IPVLAN_MODE_L2
	IpvlanL3  = nl.IPVLAN_MODE_L3
	IpvlanL3S = nl.IPVLAN_MODE_L3S
)

// IpvlanFlag says how ipvlan children of one parent see each other.
type IpvlanFlag = nl.IPVlanFlag

// The flags of ipvlan.
const (
	IpvlanBridge  = nl.IPVLAN_FLAG_BRIDGE
	IpvlanPrivate = nl.IPVLAN_FLAG_PRIVATE
	IpvlanVEPA    = nl.IPVLAN_FLAG_VEPA
)

// AddMacvlan makes a macvlan child, which is down yet.
func (c *Conn) AddMacvlan(ch Child, mode MacvlanMode) error {
	return c.add(&nl.Macvlan{LinkAttrs: ch.attrs(), Mode: mode}, "macvlan", ch.Name)
}

// AddIpvlan makes an ipvlan child, which is down yet.
func (c *Conn) AddIpvlan(ch Child, mode IpvlanMode, flag IpvlanFlag) error {
	return c.add(&nl.IPVlan{LinkAttrs: ch.attrs(), Mode: mode, Flag: flag}, "ipvlan", ch.Name)
}

func (ch Child) attrs() nl.LinkAttrs {
	a := nl.NewLinkAttrs()
	a.Name, a.ParentIndex, a.HardwareAddr, a.MTU = ch.Name, ch.Parent, ch.MAC, ch.MTU
	a.Namespace = nl.NsFd(ch.NS.Fd())
	return a
}

// AddVLAN makes the 802.1q interface of a VLAN of an interface, which is down yet.
func (c *Conn) AddVLAN(name string, parent, id int) (Link, error) {
	a := nl.NewLinkAttrs()
	a.Name, a.ParentIndex = name, parent
	if err := c.add(&nl.Vlan{LinkAttrs: a, VlanId: id, VlanProtocol: nl.VLAN_PROTOCOL_8021Q}, "vlan", name); err != nil {
		return Link{}, err
	}
	return c.Link(name)
}

// AddDummy makes an interface that leads nowhere, which is down yet.
func (c *Conn) AddDummy(name string) (Link, error) {
	a := nl.NewLinkAttrs()
	a.Name = name
	if err := c.add(&nl.Dummy{LinkAttrs: a}, "dummy", name); err != nil {
		return Link{}, err
	}
	return c.Link(name)
}

// ErrNoSuchKind says that the kernel has no interfaces of a kind.
var ErrNoSuchKind = errors.New("this kernel has no such interfaces")

func (c *Conn) add(l nl.Link, kind, name string) error {
	err := c.h.LinkAdd(l)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT):
		return fmt.Errorf("making %s interface %s: %w (%w)", kind, name, ErrNoSuchKind, err)
	case err != nil:
		return fmt.Errorf("making %s interface %s: %w", kind, name, err)
	}
	return nil
}

// SetLabel writes on an interface whose it is.
func (c *Conn) SetLabel(index int, text string) error {
	if err := c.h.LinkSetAlias(byIndex(index), text); err != nil {
		return fmt.Errorf("labelling network interface %d: %w", index, err)
	}
	return nil
}

// Routes are some that were taken away, to be put back.
type Routes struct{ all []nl.Route }

// TakeDefaultRoutes takes the default routes of both families away.
func (c *Conn) TakeDefaultRoutes() (Routes, error) {
	var out Routes
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := c.h.RouteList(nil, family)
		if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
			return out, fmt.Errorf("listing routes: %w", err)
		}
		for _, r := range all {
			if p, ok := toPrefix(r.Dst); r.Dst == nil || ok && p.Bits() == 0 {
				out.all = append(out.all, r)
			}
		}
		if err := c.DeleteDefaultRoutes(family == unix.AF_INET6); err != nil {
			return out, err
		}
	}
	return out, nil
}

// PutRoutes puts routes back.
func (c *Conn) PutRoutes(r Routes) error {
	var errs []error
	for _, one := range r.all {
		if err := c.h.RouteReplace(&one); err != nil {
			errs = append(errs, fmt.Errorf("putting a default route back: %w", err))
		}
	}
	return errors.Join(errs...)
}
