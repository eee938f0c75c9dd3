// Package macvlan is the driver of networks whose containers stand on the host's network with hardware addresses of their
// own.
package macvlan

import (
	"context"

	"github.com/gantry-engine/gantry/internal/driver/network/lower"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// optMode is how containers of one parent see each other: bridge, private, vepa or passthru.
const optMode = "macvlan_mode"

// Kind makes macvlan networks. It implements networks.Kind.
type Kind struct{ lower.Env }

// Settle implements networks.Kind.
func (k Kind) Settle(n *spec.Network) error {
	_, err := plan(n)
	return err
}

func plan(n *spec.Network) (lower.Plan, error) {
	p, err := lower.Parse("macvlan", n)
	if err != nil {
		return p, err
	}
	mode, err := lower.Choice(n.Options, optMode, "macvlan mode", []string{"bridge", "private", "vepa", "passthru"},
		[]netlink.MacvlanMode{netlink.MacvlanBridge, netlink.MacvlanPrivate, netlink.MacvlanVEPA, netlink.MacvlanPassthru})
	passthru := mode == netlink.MacvlanPassthru
	p.MACs, p.Kept, p.Alone = true, passthru, passthru
	p.Make = func(c *netlink.Conn, ch netlink.Child) error { return c.AddMacvlan(ch, mode) }
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
