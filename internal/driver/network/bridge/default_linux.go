package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Default is what dockerd's flags say about the default network.
type Default struct {
	// Name is the bridge's interface. A bridge that the user made (External, --bridge)
	// is used as it is and never deleted.
	Name     string
	External bool
	// Address is --bip, Address6 --bip6: the bridge's address and subnet; invalid picks a free subnet.
	Address, Address6 netip.Prefix
	// Range is --fixed-cidr, Range6 --fixed-cidr-v6: where containers' addresses come from; invalid is the whole subnet.
	Range, Range6 netip.Prefix
	// Gateway is --default-gateway, Gateway6 --default-gateway-v6: the containers' default route; invalid is the bridge.
	Gateway, Gateway6 netip.Addr
	IPv6              bool // --ipv6
	NoICC             bool
	NoMasq            bool
	HostIP            netip.Addr // --ip: where ports are published by default
}

// Default settles the default network from the flags, the interface that is there, and the subnets that the host does not use.
func (k Kind) Default(cfg Default, supplies []ipam.Supply) (networks.Predefined, error) {
	n := spec.Network{Name: "bridge", Driver: "bridge", EnableIPv4: true, EnableIPv6: cfg.IPv6, Options: cfg.options(k.MTU)}
	conn, err := netlink.Open(nil)
	if err != nil {
		return networks.Predefined{}, err
	}
	defer conn.Close()
	address, err := cfg.settle(conn, supplies)
	if err != nil {
		return networks.Predefined{}, err
	}
	four, err := pool(address, cfg.Range, cfg.Gateway, defaultGateway4)
	if err != nil {
		return networks.Predefined{}, err
	}
	n.Pools = []spec.Pool{four}
	if cfg.IPv6 {
		address6, err := cfg.settle6(conn, supplies)
		if err != nil {
			return networks.Predefined{}, err
		}
		six, err := pool(address6, cfg.Range6, cfg.Gateway6, defaultGateway6)
		if err != nil {
			return networks.Predefined{}, err
		}
		n.Pools = append(n.Pools, six)
	}
	o, err := k.parse(&n)
	if err != nil {
		return networks.Predefined{}, err
	}
	var space networks.Space
	if space.V4, err = ipam.NewSpace(n.Pools[:1]); err != nil {
		return networks.Predefined{}, err
	}
	if cfg.IPv6 {
		if space.V6, err = ipam.NewSpace(n.Pools[1:]); err != nil {
			return networks.Predefined{}, err
		}
	}
	return networks.Predefined{Network: n, Driver: k.driver(n, o, space, cfg.External), Space: space}, nil
}

func (c Default) options(mtu int) map[string]string {
	host := "0.0.0.0"
	if c.HostIP.IsValid() {
		host = c.HostIP.String()
	}
	if mtu == 0 {
		mtu = 1500
	}
	return map[string]string{
		optDefault: "true", optICC: strconv.FormatBool(!c.NoICC), optMasquerade: strconv.FormatBool(!c.NoMasq), optHost4: host, optName: c.Name, optMTU: strconv.Itoa(mtu),
	}
}

// pool is the subnet of the bridge's address.
func pool(address, within netip.Prefix, gateway netip.Addr, aux string) (spec.Pool, error) {
	p := spec.Pool{Subnet: address.Masked(), Range: within, Gateway: address.Addr()}
	if gateway.IsValid() {
		if !address.Contains(gateway) {
			return p, fmt.Errorf("default gateway %s is not in the bridge's subnet %s: %w", gateway, p.Subnet, errdefs.ErrInvalidArgument)
		}
		p.Aux = map[string]netip.Addr{aux: gateway}
	}
	return p, nil
}

// settle finds the bridge's IPv4 address: the one asked for, the one it has, or one in a free subnet.
func (c Default) settle(conn *netlink.Conn, supplies []ipam.Supply) (netip.Prefix, error) {
	if c.Address.IsValid() {
		return c.Address, nil
	}
	have, err := c.have(conn, false)
	if err != nil {
		return netip.Prefix{}, err
	}
	if len(have) > 0 {
		return choose(have, c.Range), nil
	}
	if c.Range.IsValid() { // --fixed-cidr alone names the subnet
		return netip.PrefixFrom(c.Range.Masked().Addr().Next(), c.Range.Bits()), nil
	}
	return pick(conn, supplies, false)
}

func (c Default) settle6(conn *netlink.Conn, supplies []ipam.Supply) (netip.Prefix, error) {
	if c.Address6.IsValid() {
		return c.Address6, nil
	}
	have, err := c.have(conn, true)
	if err != nil {
		return netip.Prefix{}, err
	}
	if len(have) > 0 {
		return choose(have, c.Range6), nil
	}
	if c.Range6.IsValid() {
		return netip.PrefixFrom(c.Range6.Masked().Addr().Next(), c.Range6.Bits()), nil
	}
	return pick(conn, supplies, true)
}

// have are the addresses of a family that the interface has, if it is there.
func (c Default) have(conn *netlink.Conn, ipv6 bool) (out []netip.Prefix, err error) {
	l, err := conn.Link(c.Name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := conn.Addresses(l.Index)
	for _, p := range all {
		if p.Addr().Is6() == ipv6 {
			out = append(out, p)
		}
	}
	return out, err
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

// pick finds a subnet that the host does not use yet.
func pick(conn *netlink.Conn, supplies []ipam.Supply, ipv6 bool) (netip.Prefix, error) {
	used, err := Used(conn)
	if err != nil {
		return netip.Prefix{}, err
	}
	p, err := ipam.Pick(supplies, ipv6, used)
	if err != nil {
		return p, fmt.Errorf("the default network: %w", err)
	}
	return netip.PrefixFrom(p.Addr().Next(), p.Bits()), nil
}

// Used are the subnets that the host routes, or has an address in.
func Used(conn *netlink.Conn) ([]netip.Prefix, error) {
	used, err := conn.Routes()
	if err != nil {
		return nil, err
	}
	addrs, err := conn.Addresses(0)
	for _, a := range addrs {
		used = append(used, a.Masked())
	}
	return used, err
}
