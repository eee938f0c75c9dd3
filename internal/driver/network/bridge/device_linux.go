package bridge

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// device is the bridge's interface on the host.
type device struct {
	cfg    Config
	prefix string        // of the names of our veths on it
	conn   *netlink.Conn // nil until open
	index  int
	subnet netip.Prefix // with the bridge's address
}

func newDevice(cfg Config) *device {
	sum := sha256.Sum256([]byte(cfg.Name))
	return &device{cfg: cfg, prefix: "gv" + hex.EncodeToString(sum[:2])}
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

// close ends what open began; with remove it takes away an interface that is ours.
func (d *device) close(remove bool) error {
	var err error
	if remove && !d.cfg.External {
		err = d.conn.Delete(netlink.Link{Index: d.index, Name: d.cfg.Name})
	}
	d.conn.Close()
	return err
}

// settle finds or makes the interface and settles d.subnet.
func (d *device) settle() error {
	l, err := d.conn.Link(d.cfg.Name)
	switch {
	case errors.Is(err, os.ErrNotExist) && d.cfg.External:
		return fmt.Errorf("bridge device %s given with --bridge does not exist, make it first: %w", d.cfg.Name, errdefs.ErrFailedPrecondition)
	case errors.Is(err, os.ErrNotExist):
		return d.make()
	case err != nil:
		return err
	case l.Kind != "bridge":
		return fmt.Errorf("network interface %s is a %s, not a bridge: %w", l.Name, l.Kind, errdefs.ErrFailedPrecondition)
	}
	d.index = l.Index
	have, err := d.conn.Addresses(l.Index)
	if err != nil {
		return err
	}
	want := d.cfg.Address
	switch {
	case len(have) > 0 && !want.IsValid():
		d.subnet = choose(have, d.cfg.Range)
	case len(have) == 0 && !want.IsValid():
		if d.subnet, err = d.pick(); err != nil {
			return err
		}
	default:
		d.subnet = want
	}
	if !d.cfg.External {
		for _, p := range have {
			if p != d.subnet {
				if err := d.conn.DeleteAddress(l.Index, p); err != nil {
					return err
				}
			}
		}
		if l.MTU != d.cfg.MTU {
			if err := d.conn.SetMTU(l.Index, d.cfg.MTU); err != nil {
				return err
			}
		}
	}
	if err := d.conn.AddAddress(l.Index, d.subnet); err != nil {
		return err
	}
	return d.conn.SetUp(l.Index)
}

// choose takes the bridge's address whose subnet has the range, or else the first.
func choose(have []netip.Prefix, within netip.Prefix) netip.Prefix {
	for _, p := range have {
		if within.IsValid() && p.Contains(within.Addr()) && p.Bits() <= within.Bits() {
			return p
		}
	}
	return have[0]
}

func (d *device) make() (err error) {
	d.subnet = d.cfg.Address
	if !d.subnet.IsValid() {
		if d.subnet, err = d.pick(); err != nil {
			return err
		}
	}
	// With a fixed hardware address the bridge keeps it when ports come and go.
	l, err := d.conn.AddBridge(d.cfg.Name, d.cfg.MTU, macOf(d.subnet.Addr()))
	if err != nil {
		return err
	}
	d.index = l.Index
	if err := d.conn.AddAddress(l.Index, d.subnet); err != nil {
		return errors.Join(err, d.conn.Delete(l))
	}
	return nil
}

// pick finds a subnet that the host does not route yet: 172.17 to 172.31, then
// 192.168.0.0/16 in /20s, as Docker's default address pools.
func (d *device) pick() (netip.Prefix, error) {
	used, err := d.conn.Routes()
	if err != nil {
		return netip.Prefix{}, err
	}
	addrs, err := d.conn.Addresses(0)
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, a := range addrs {
		used = append(used, a.Masked())
	}
	if d.cfg.Range.IsValid() { // --fixed-cidr alone names the subnet
		return netip.PrefixFrom(d.cfg.Range.Masked().Addr().Next(), d.cfg.Range.Bits()), nil
	}
	return pickFrom(used)
}

func pickFrom(used []netip.Prefix) (netip.Prefix, error) {
	var pools []netip.Prefix
	for i := byte(17); i <= 31; i++ {
		pools = append(pools, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, i}), 16))
	}
	for i := 0; i < 256; i += 16 {
		pools = append(pools, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i)}), 20))
	}
next:
	for _, p := range pools {
		for _, u := range used {
			if u.Overlaps(p) {
				continue next
			}
		}
		return netip.PrefixFrom(p.Addr().Next(), p.Bits()), nil
	}
	return netip.Prefix{}, fmt.Errorf("the host routes all default address pools already, choose a subnet with --bip: %w", errdefs.ErrFailedPrecondition)
}

// macOf derives the hardware address from the IP, so that an address that comes
// back to another container does not meet stale ARP entries.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}
