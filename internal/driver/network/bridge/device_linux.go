package bridge

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/firewall"
	"github.com/gantry-engine/gantry/internal/driver/network/label"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// device is the bridge's interface on the host.
type device struct {
	name, label string
	engine      string
	external    bool // the user's: it is used as it is, and never deleted
	builtin     bool // the default network's
	mtu         int
	ipv6        bool
	addresses   []netip.Prefix // that it has
	prefix      string         // of the names of our veths on it
	conn        *netlink.Conn  // nil until open
	index       int
}

func newDevice(n spec.Network, o options, engine string, external bool) *device {
	sum := sha256.Sum256([]byte(o.name))
	d := &device{
		name: o.name, label: label.Network(engine, n.ID), engine: engine, external: external, builtin: n.ID == "", mtu: o.mtu, ipv6: n.EnableIPv6,
		prefix: "gv" + hex.EncodeToString(sum[:2]),
	}
	if d.builtin {
		d.label = label.Default(engine)
	}
	for _, p := range n.Pools {
		mode := o.mode4
		if p.Gateway.Is6() {
			mode = o.mode6
		}
		if p.Gateway.IsValid() && mode != firewall.Isolated && !(p.Gateway.Is4() && o.noIPv4) {
			d.addresses = append(d.addresses, netip.PrefixFrom(p.Gateway, p.Subnet.Bits()))
		}
	}
	return d
}

// open finds or makes the interface, once.
func (d *device) open() error {
	if d.conn != nil {
		return nil
	}
	conn, err := netlink.OpenForPairs()
	if err != nil {
		return err
	}
	d.conn = conn
	if err := d.settle(); err != nil {
		d.conn.Close()
		d.conn = nil
		return err
	}
	return nil
}

// close ends what open began; with remove it takes away an interface that is ours: at once for whoever looks for it, though
// the kernel takes tens of milliseconds to delete it.
func (d *device) close(remove bool) error {
	conn := d.conn
	if !remove || d.external {
		conn.Close()
		return nil
	}
	l := netlink.Link{Index: d.index, Name: d.name}
	if d.builtin { // the daemon ends: nobody waits
		defer conn.Close()
		return conn.Delete(l)
	}
	if err := conn.Retire(d.index, label.Spare(d.engine), label.Removed(d.engine)); err != nil {
		defer conn.Close()
		return conn.Delete(l)
	}
	failpoint.Hit("gantryd.bridge-retired")
	go func() {
		defer conn.Close()
		if err := conn.Delete(l); err != nil {
			slog.Warn("the bridge of a removed network stays", "bridge", d.name, "error", err)
		}
	}()
	return nil
}

// settle finds or makes the interface, and gives it its addresses.
func (d *device) settle() error {
	l, err := d.conn.Link(d.name)
	switch {
	case errors.Is(err, os.ErrNotExist) && d.external:
		return fmt.Errorf("bridge device %s given with --bridge does not exist, make it first: %w", d.name, errdefs.ErrFailedPrecondition)
	case errors.Is(err, os.ErrNotExist):
		return d.make()
	case err != nil:
		return err
	case l.Kind != "bridge":
		return fmt.Errorf("network interface %s is a %s, not a bridge: %w", l.Name, l.Kind, errdefs.ErrFailedPrecondition)
	}
	if id, ours := label.Owner(l.Alias, d.engine); !ours && l.Alias != d.label && !d.builtin {
		d.external = true // somebody made it before us: it is used, and left
	} else if ours && l.Alias != d.label {
		return fmt.Errorf("network interface %s is the bridge of network %s: %w", l.Name, id, errdefs.ErrConflict)
	}
	d.index = l.Index
	if !d.external && l.MTU != d.mtu {
		if err := d.conn.SetMTU(l.Index, d.mtu); err != nil {
			return err
		}
	}
	return d.address(!d.external)
}

// address gives the interface its addresses and brings it up; alone takes others away.
func (d *device) address(alone bool) error {
	have, err := d.conn.Addresses(d.index)
	if err != nil {
		return err
	}
	wanted := map[netip.Prefix]bool{}
	for _, p := range d.addresses {
		wanted[p] = true
	}
	for _, p := range have {
		if alone && !wanted[p] {
			if err := d.conn.DeleteAddress(d.index, p); err != nil {
				return err
			}
		}
		delete(wanted, p)
	}
	if d.ipv6 {
		if err := netlink.WriteSysctl("net/ipv6/conf/"+d.name+"/disable_ipv6", "0"); err != nil {
			return fmt.Errorf("bridge %s cannot have IPv6: %w", d.name, err)
		}
	}
	for p := range wanted {
		if err := d.conn.AddAddress(d.index, p); err != nil {
			return err
		}
	}
	return d.conn.SetUp(d.index)
}

// make makes the interface, under a name that tells it from a finished one until it has its label.
func (d *device) make() (err error) {
	var mac net.HardwareAddr // with a fixed hardware address the bridge keeps it when ports come and go
	if len(d.addresses) > 0 {
		mac = macOf(d.addresses[0].Addr())
	} else {
		mac = net.HardwareAddr{0x02, 0x42, byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32())}
	}
	l, err := d.conn.AddBridge(label.Spare(d.engine), d.mtu, mac)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.conn.Delete(l))
		}
	}()
	failpoint.Hit("gantryd.bridge-unnamed")
	if err := d.conn.Label(l.Index, d.name, d.label); err != nil {
		return err
	}
	d.index = l.Index
	return d.address(true)
}

// macOf derives the hardware address from the IP, so that an address that comes
// back to another container does not meet stale ARP entries.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.AsSlice()
	b = b[len(b)-4:]
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}
