// Package bridge is the driver of networks on one host: a Linux bridge, a veth pair per container, addresses of both
// families. Namespaces with their interface in place are kept warm.
package bridge

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync/atomic"

	"github.com/gantry-engine/gantry/internal/driver/network/firewall"
	"github.com/gantry-engine/gantry/internal/driver/network/flows"
	"github.com/gantry-engine/gantry/internal/driver/network/inside"
	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Kind makes bridge networks. It implements networks.Kind.
type Kind struct {
	// Engine tells this engine's interfaces from others' on the same host; a few letters and digits.
	Engine string
	// LocalPorts lets ports published on 127.0.0.1 reach containers; only with our
	// firewall in place, which drops what outsiders would send there.
	LocalPorts bool
	// MTU is what networks have that say nothing; 0 is 1500.
	MTU int
	// PoolSize is how many namespaces are kept ready for each network while nothing happens; up to growth
	// times as many under load. 0 keeps none.
	PoolSize int
	// Prepare makes ready what asks for names in a namespace, if not nil: for networks that have them.
	Prepare func(ns *os.File) error
	// Forward6 lets the host pass IPv6 packets between interfaces; nil leaves it as it is.
	Forward6 func() error
	// Flows forgets what the kernel tracks of addresses that are free again; nil leaves it.
	Flows *flows.Forgetter
	// Rules are told which networks there are; nil without packet rules.
	Rules Rules
}

// Rules is the part of the firewall that a network needs.
type Rules interface {
	AddNetwork(n firewall.Network) error
	RemoveNetwork(bridge string) error
}

// Settle implements networks.Kind.
func (k Kind) Settle(n *spec.Network) error {
	_, err := k.parse(n)
	return err
}

func (k Kind) parse(n *spec.Network) (options, error) {
	o, err := parse(n)
	if _, said := n.Options[optMTU]; !said && k.MTU > 0 {
		o.mtu = k.MTU
	}
	return o, err
}

// New implements networks.Kind.
func (k Kind) New(n spec.Network, addresses networks.Space) (networks.Driver, error) {
	o, err := k.parse(&n)
	if err != nil {
		return nil, err
	}
	return k.driver(n, o, addresses, false), nil
}

// Driver is one bridge: the device on the host, and the containers' ports on it.
type Driver struct {
	kind    Kind
	net     spec.Network
	opts    options
	dev     *device
	sweeper *sweeper
	space   networks.Space
	ports   *maker // nil until Open

	closed  atomic.Bool
	closing chan struct{}
}

func (k Kind) driver(n spec.Network, o options, space networks.Space, external bool) *Driver {
	closing := make(chan struct{})
	dev := newDevice(n, o, k.Engine, external)
	return &Driver{kind: k, net: n, opts: o, dev: dev, sweeper: newSweeper(dev, closing), space: space, closing: closing}
}

// Open implements networks.Driver.
func (d *Driver) Open(context.Context) (err error) {
	if err := d.dev.open(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.dev.conn.Close()
			d.dev.conn = nil
		}
	}()
	failpoint.Hit("gantryd.bridge-made")
	if d.kind.Rules != nil {
		if err := d.kind.Rules.AddNetwork(d.rules()); err != nil {
			return err
		}
	}
	if d.kind.Forward6 != nil && d.net.EnableIPv6 && !d.net.Internal {
		if err := d.kind.Forward6(); err != nil {
			return err
		}
	}
	if d.kind.LocalPorts && !d.net.Internal && d.net.EnableIPv4 {
		if err := netlink.WriteSysctl("net/ipv4/conf/"+d.opts.name+"/route_localnet", "1"); err != nil {
			return err
		}
	}
	d.ports = newMaker(d)
	return nil
}

// rules is the network as the firewall sees it.
func (d *Driver) rules() firewall.Network {
	n := firewall.Network{
		Bridge: d.opts.name, Mode4: d.opts.mode4, Mode6: d.opts.mode6, Masquerade: d.opts.masquerade, HostIPv4: d.opts.source4, HostIPv6: d.opts.source6,
		ICC: d.opts.icc, Internal: d.net.Internal, Trusted: d.opts.trusted,
	}
	for _, p := range d.net.Pools {
		if p.Subnet.Addr().Is4() {
			n.V4 = append(n.V4, p.Subnet)
		} else {
			n.V6 = append(n.V6, p.Subnet)
		}
	}
	return n
}

// Ready implements networks.Driver: fills the pool and, meanwhile, deletes what dead
// daemons left. Containers started from now on are none of these.
func (d *Driver) Ready(context.Context) error {
	err := d.sweeper.start()
	d.ports.pool.Start()
	return err
}

// Close implements networks.Driver.
func (d *Driver) Close(_ context.Context, remove bool) error {
	if d.dev.conn == nil || d.closed.Swap(true) {
		return nil
	}
	close(d.closing)
	if d.ports != nil {
		d.ports.pool.Stop()
	}
	d.sweeper.work.Wait()
	if !remove {
		return d.dev.close(false)
	}
	d.sweeper.clear(0)
	var err error
	if d.kind.Rules != nil {
		err = d.kind.Rules.RemoveNetwork(d.opts.name)
	}
	if cerr := d.dev.close(true); err == nil {
		err = cerr
	}
	return err
}

// Attach implements networks.Driver.
func (d *Driver) Attach(_ context.Context, j networks.Join) (_ networks.Attached, err error) {
	p, err := d.ports.take(j)
	if err != nil {
		return networks.Attached{}, err
	}
	failpoint.Hit("gantryd.net-taken")
	if err := p.adapt(j); err != nil {
		if j.NetNS != nil {
			err = errors.Join(err, inside.Remove(j.NetNS, p.iface))
		}
		d.ports.discard(p, j.NetNS == nil)
		return networks.Attached{}, err
	}
	ep := spec.Endpoint{
		Interface: p.iface, HostInterface: d.opts.name, HostVeth: p.veth, MAC: p.mac.String(), IPv4: p.four, IPv6: p.six,
		Gateway4: d.gateway(p.four.Addr()), Gateway6: d.gateway(p.six.Addr()),
	}
	if d.net.Internal { // nobody publishes what nobody reaches
		ep.HostInterface = ""
	}
	a := networks.Attached{Endpoint: ep}
	if j.NetNS == nil {
		a.NetNS, a.Prepared = p.ns, p.prepared
	}
	return a, nil
}

// gateway is the default route of the containers of an address's subnet; invalid if there is none.
func (d *Driver) gateway(a netip.Addr) netip.Addr {
	mode, aux := d.opts.mode4, defaultGateway4
	if a.Is6() {
		mode, aux = d.opts.mode6, defaultGateway6
	}
	if !a.IsValid() || d.net.Internal || mode == firewall.Isolated {
		return netip.Addr{}
	}
	for _, p := range d.net.Pools {
		if !p.Subnet.Contains(a) {
			continue
		}
		if g, ok := p.Aux[aux]; ok {
			return g
		}
		if a.Is4() && d.opts.noIPv4 {
			return netip.Addr{}
		}
		return p.Gateway
	}
	return netip.Addr{}
}

// Restore implements networks.Driver.
func (d *Driver) Restore(_ context.Context, ep spec.Endpoint) error {
	d.sweeper.spare(ep.HostVeth)
	return ipam.Relend(d.space, ep)
}

// Unplug implements networks.Driver: the container loses the interface at once; the kernel takes it away later.
func (d *Driver) Unplug(_ context.Context, ep spec.Endpoint, ns *os.File) error {
	return inside.Remove(ns, ep.Interface)
}

// Detach implements networks.Driver. The veth goes with its namespace.
func (d *Driver) Detach(_ context.Context, ep spec.Endpoint) error {
	d.sweeper.forget(ep.HostVeth)
	d.kind.Flows.Forget(ep.IPv4.Addr(), ep.IPv6.Addr())
	if ep.IPv4.IsValid() && d.space.V4 != nil {
		d.space.V4.Free(ep.IPv4.Addr())
	}
	if ep.IPv6.IsValid() && d.space.V6 != nil {
		d.space.V6.Free(ep.IPv6.Addr())
	}
	return nil
}
