// Package ipvlan is the driver of networks whose containers stand on the host's network with its hardware address: on the
// same link (l2), or behind the host as a router (l3, l3s).
package ipvlan

import (
	"context"

	"github.com/gantry-engine/gantry/internal/driver/network/lower"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Options of ipvlan networks, as Docker names them.
const (
	optMode = "ipvlan_mode" // l2, l3 or l3s
	optFlag = "ipvlan_flag" // how containers of one parent see each other: bridge, private or vepa
)

// Kind makes ipvlan networks. It implements networks.Kind.
type Kind struct{ lower.Env }

// Settle implements networks.Kind.
func (k Kind) Settle(n *spec.Network) error {
	_, err := plan(n)
	return err
}

func plan(n *spec.Network) (lower.Plan, error) {
	p, err := lower.Parse("ipvlan", n)
	if err != nil {
		return p, err
	}
	mode, err := lower.Choice(n.Options, optMode, "ipvlan mode", []string{"l2", "l3", "l3s"},
		[]netlink.IpvlanMode{netlink.IpvlanL2, netlink.IpvlanL3, netlink.IpvlanL3S})
	if err != nil {
		return p, err
	}
	flag, err := lower.Choice(n.Options, optFlag, "ipvlan flag", []string{"bridge", "private", "vepa"},
		[]netlink.IpvlanFlag{netlink.IpvlanBridge, netlink.IpvlanPrivate, netlink.IpvlanVEPA})
	p.Alone, p.Routed = true, mode != netlink.IpvlanL2
	p.Make = func(c *netlink.Conn, ch netlink.Child) error { return c.AddIpvlan(ch, mode, flag) }
	return p, err
}

// New implements networks.Kind.
func (k Kind) New(n spec.Network, addresses networks.Space) (networks.Driver, error) {
	p, err := plan(&n)
	if err != nil {
		return nil, err
	}
	return lower.New(k.Env, n, addresses, p), nil
}

// Sweep implements networks.Kind.
func (k Kind) Sweep(ctx context.Context, known func(id string) bool) error {
	return k.Devices.Sweep(ctx, known)
}
