// Package inside is the containers' side of networks: their namespaces, and how interfaces are set up in them.
package inside

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// New makes a namespace with its loopback up. Interfaces that come later have IPv6 only if ipv6 says so.
func New(ipv6 bool) (*os.File, error) {
	return netlink.NewNamespace(func() error {
		settings := [][2]string{{"default", "disable_ipv6"}}
		value := "1"
		if ipv6 { // addresses are given out, not announced by neighbours
			settings, value = [][2]string{{"default", "accept_ra"}}, "0"
		}
		for _, s := range settings {
			if err := netlink.WriteSysctl("net/ipv6/conf/"+s[0]+"/"+s[1], value); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return netlink.LoopbackUp()
	})
}

// Interface is how a container's interface is to be.
type Interface struct {
	Name      string           // as it is called in the namespace
	MAC       net.HardwareAddr // nil leaves it
	Addresses []netip.Prefix   // invalid ones are left out
	LinkLocal []netip.Addr     // further addresses
	Gateways  []netip.Addr     // of the default routes; invalid ones are left out
	// Foreign says that the namespace was not made for this interface: its defaults say nothing of it.
	Foreign bool
	// Listens to routers' announcements (IPv6).
	Listens bool
}

// Set sets an interface up that is in a namespace already.
func Set(ns *os.File, in Interface) error {
	c, err := netlink.Open(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.Link(in.Name)
	if err != nil {
		return err
	}
	if in.Foreign {
		if err := family6(ns, in); err != nil {
			return err
		}
	}
	if len(in.MAC) > 0 {
		if err := c.SetMAC(l.Index, in.MAC); err != nil {
			return err
		}
	}
	if err := c.SetUp(l.Index); err != nil {
		return err
	}
	for _, a := range in.LinkLocal {
		in.Addresses = append(in.Addresses, linkLocal(a))
	}
	for _, a := range in.Addresses {
		if a.IsValid() {
			if err := c.AddAddress(l.Index, a); err != nil {
				return err
			}
		}
	}
	for _, g := range in.Gateways {
		if g.IsValid() {
			if err := c.AddDefaultRoute(l.Index, g); err != nil {
				return err
			}
		}
	}
	return nil
}

func linkLocal(a netip.Addr) netip.Prefix {
	if a.Is6() {
		return netip.PrefixFrom(a, 64)
	}
	return netip.PrefixFrom(a, 16)
}

// AddLinkLocal gives an interface further addresses.
func AddLinkLocal(ns *os.File, name string, addresses []netip.Addr) error {
	c, err := netlink.Open(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.Link(name)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if err := c.AddAddress(l.Index, linkLocal(a)); err != nil {
			return err
		}
	}
	return nil
}

// KeepDefaults has others change a namespace that lives on, and puts its default routes back as they were.
func KeepDefaults(ns *os.File, do func() error) error {
	c, err := netlink.Open(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	kept, err := c.TakeDefaultRoutes()
	if err != nil {
		return err
	}
	err = do()
	if _, terr := c.TakeDefaultRoutes(); terr != nil {
		err = errors.Join(err, terr)
	}
	return errors.Join(err, c.PutRoutes(kept))
}

// family6 switches IPv6 on or off for one interface.
func family6(ns *os.File, in Interface) error {
	value := "1"
	for _, a := range in.Addresses {
		if a.IsValid() && a.Addr().Is6() {
			value = "0"
		}
	}
	for _, a := range in.LinkLocal {
		if a.Is6() {
			value = "0"
		}
	}
	return netlink.Do(ns, func() error {
		dir := "net/ipv6/conf/" + in.Name + "/"
		err := netlink.WriteSysctl(dir+"disable_ipv6", value)
		if err == nil && value == "0" && !in.Listens {
			err = netlink.WriteSysctl(dir+"accept_ra", "0")
		}
		if errors.Is(err, os.ErrNotExist) && value == "1" {
			return nil // a kernel without IPv6
		}
		return err
	})
}

// Namespaces looks after namespaces as wholes. It implements networks.Namespaces.
type Namespaces struct{}

// Of implements networks.Namespaces.
func (Namespaces) Of(pid int) (*os.File, error) { return netlink.OfProcess(pid) }

// Route implements networks.Namespaces.
func (Namespaces) Route(ns *os.File, via4, via6 *spec.Endpoint) error {
	c, err := netlink.Open(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, f := range []struct {
		via     *spec.Endpoint
		six     bool
		gateway func(*spec.Endpoint) netip.Addr
	}{{via4, false, func(e *spec.Endpoint) netip.Addr { return e.Gateway4 }}, {via6, true, func(e *spec.Endpoint) netip.Addr { return e.Gateway6 }}} {
		if err := c.DeleteDefaultRoutes(f.six); err != nil {
			return err
		}
		if f.via == nil {
			continue
		}
		l, err := c.Link(f.via.Interface)
		if err != nil {
			return fmt.Errorf("the default route cannot lead by network %s: %w", f.via.NetworkName, err)
		}
		if err := c.ReplaceDefaultRoute(l.Index, f.gateway(f.via)); err != nil {
			return err
		}
	}
	return nil
}

// Remove takes an interface out of a namespace that lives on: it is gone for the container at once, the kernel takes its
// time. One that the container has deleted itself is no error.
func Remove(ns *os.File, name string) error {
	c, err := netlink.Open(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.Link(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Discard(l)
}

// KindOf is the kind of an interface in a namespace ("macvlan"), or "" if there is none of this name.
func KindOf(ns *os.File, name string) string {
	c, err := netlink.Open(ns)
	if err != nil {
		return ""
	}
	defer c.Close()
	l, err := c.Link(name)
	if err != nil {
		return ""
	}
	return l.Kind
}
