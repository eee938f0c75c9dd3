// Package vxlan is the driver of networks that several engines share: on each host a bridge, and on it an interface that sends
// frames to the other hosts, its peers, in UDP packets; encrypted if wanted. Hosts know each other by the network's options
// alone: nothing is agreed on between engines, addresses neither.
package vxlan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/bridge"
	"github.com/gantry-engine/gantry/internal/driver/network/label"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Kind makes vxlan networks. It implements networks.Kind.
type Kind struct{ Bridge bridge.Kind }

// Settle implements networks.Kind.
func (k Kind) Settle(n *spec.Network) error {
	o, err := parse(n)
	if err != nil {
		return err
	}
	if n.Recorded {
		return nil // what was found is recorded
	}
	if o.encrypted {
		if _, err := secret(n); err != nil {
			return err
		}
	}
	if err := o.complete(n); err != nil {
		return err
	}
	return k.Bridge.Settle(n)
}

// New implements networks.Kind.
func (k Kind) New(n spec.Network, addresses networks.Space) (networks.Driver, error) {
	o, err := parse(&n)
	if err != nil {
		return nil, err
	}
	if !o.local.IsValid() || o.mtu == 0 {
		return nil, fmt.Errorf("network %s was not settled: %w", n.Name, errdefs.ErrInvalidArgument)
	}
	if o.encrypted {
		if o.key, err = secret(&n); err != nil {
			return nil, err
		}
	}
	d, err := k.Bridge.New(n, addresses)
	if err != nil {
		return nil, err
	}
	return &driver{Driver: d, engine: k.Bridge.Engine, net: n, opts: o}, nil
}

// Sweep implements networks.Kind: what a former daemon made and did not record.
func (k Kind) Sweep(ctx context.Context, known func(id string) bool) error {
	c, err := netlink.Open(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	links, err := c.Links()
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range links {
		id, ours := label.Owner(l.Alias, k.Bridge.Engine)
		unnamed := l.Alias == "" && label.IsSpare(l.Name, k.Bridge.Engine)
		if l.Kind == "vxlan" && (ours && !known(id) || unnamed) {
			errs = append(errs, remove(c, l.Name))
		}
	}
	return errors.Join(append(errs, k.Bridge.Sweep(ctx, known))...)
}

// remove takes a vxlan interface away, and the encryption that was made for it: after it, so that nothing goes out plain.
func remove(c *netlink.Conn, name string) error {
	l, v, err := c.Vxlan(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.Delete(l); err != nil {
		return err
	}
	return netlink.DeleteSecure(v.Local, v.Port, v.VNI)
}

// driver is one network: a bridge's driver, which has the containers, and the way to the other hosts.
type driver struct {
	networks.Driver
	engine string
	net    spec.Network
	opts   options

	mu      sync.Mutex
	bridged bool // the bridge is open
	open    bool // so is the way to the other hosts
}

// name is the vxlan interface.
func (d *driver) name() string { return "vx-" + d.net.ID[:min(12, len(d.net.ID))] }

// Open implements networks.Driver.
func (d *driver) Open(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open {
		return nil
	}
	if !d.bridged {
		if err := d.Driver.Open(ctx); err != nil {
			return err
		}
		d.bridged = true
	}
	if err := d.connect(); err != nil {
		return err // tried again, or closed
	}
	d.open = true
	return nil
}

// connect makes or takes over the way to the other hosts. Nothing is sent before the encryption is there.
func (d *driver) connect() error {
	c, err := netlink.OpenForPairs()
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := d.link(c)
	if err != nil {
		return err
	}
	if err := d.encrypt(); err != nil {
		return errors.Join(err, remove(c, l.Name))
	}
	br, err := c.Link(bridge.Interface(&d.net))
	if err != nil {
		return errors.Join(err, remove(c, l.Name))
	}
	for _, p := range d.opts.peers {
		if err := c.Flood(l.Index, p); err != nil {
			return errors.Join(err, remove(c, l.Name))
		}
	}
	if err := c.Enslave(l.Index, br.Index); err != nil {
		return errors.Join(err, remove(c, l.Name))
	}
	return c.SetUp(l.Index)
}

// link finds or makes the vxlan interface; one that is not as it should be is made anew.
func (d *driver) link(c *netlink.Conn) (netlink.Link, error) {
	want := netlink.Vxlan{VNI: d.opts.vni, Local: d.opts.local, Port: d.opts.port, MTU: d.opts.mtu}
	mark := label.Network(d.engine, d.net.ID)
	l, have, err := c.Vxlan(d.name())
	switch {
	case err == nil && have == want && l.Alias == mark:
		return l, nil
	case err == nil && l.Alias != mark, errors.Is(err, os.ErrInvalid):
		return l, fmt.Errorf("network interface %s is somebody else's: %w", d.name(), errdefs.ErrConflict)
	case err == nil:
		if err := remove(c, l.Name); err != nil {
			return l, err
		}
	case !errors.Is(err, os.ErrNotExist):
		return l, err
	}
	l, err = c.AddVxlan(label.Spare(d.engine), want)
	switch {
	case errors.Is(err, os.ErrExist):
		return l, fmt.Errorf("another interface of this host has vni %d at port %d (ip -d link show type vxlan): choose another number or port, on all hosts: %w: %w", d.opts.vni, d.opts.port, err, errdefs.ErrConflict)
	case errors.Is(err, netlink.ErrNoSuchKind):
		return l, fmt.Errorf("this kernel has no vxlan interfaces (module vxlan): %w: %w", err, errdefs.ErrFailedPrecondition)
	case err != nil:
		return l, err
	}
	if err := c.Label(l.Index, d.name(), mark); err != nil { // up, but on no bridge yet
		return l, errors.Join(err, c.Delete(l))
	}
	l.Name = d.name()
	return l, nil
}

// encrypt has the kernel encrypt what goes to the peers, and drop what comes plain.
func (d *driver) encrypt() error {
	if !d.opts.encrypted {
		return nil
	}
	err := netlink.BlockPlain(d.opts.local, d.opts.port)
	for _, p := range d.opts.peers {
		if err != nil {
			break
		}
		err = d.secure(p)
	}
	switch {
	case errors.Is(err, netlink.ErrNoEncryption):
		return fmt.Errorf("encrypted network %s: %w: %w", d.net.Name, err, errdefs.ErrFailedPrecondition)
	case errors.Is(err, netlink.ErrSecured):
		return fmt.Errorf("encrypted network %s: %w: choose a port that no other network uses, on all hosts (-o %s=<port>): %w", d.net.Name, err, optPort, errdefs.ErrConflict)
	}
	return err
}

func (d *driver) secure(peer netip.Addr) error {
	s, err := d.opts.secure(peer)
	if err != nil {
		return err
	}
	return netlink.AddSecure(s)
}

// Close implements networks.Driver.
func (d *driver) Close(ctx context.Context, takeAway bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.bridged {
		return nil
	}
	if takeAway && d.open {
		c, err := netlink.Open(nil)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := remove(c, d.name()); err != nil {
			return err
		}
	}
	d.bridged, d.open = false, false
	return d.Driver.Close(ctx, takeAway)
}
