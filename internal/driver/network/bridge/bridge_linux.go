// Package bridge is the driver of the default network: a Linux bridge on the host,
// a veth pair per container, IPv4 addresses from one subnet. Namespaces with their
// interface in place are kept warm.
package bridge

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync/atomic"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Config is what dockerd's flags say about the default bridge.
type Config struct {
	// Name is the bridge's interface. A bridge that the user made (External, --bridge)
	// is used as it is and never deleted.
	Name     string
	External bool
	// Address is --bip: the bridge's address and subnet; invalid picks a free subnet.
	Address netip.Prefix
	// Range is --fixed-cidr: where containers' addresses come from; invalid is the whole subnet.
	Range netip.Prefix
	// Gateway is --default-gateway: the containers' default route; invalid is the bridge.
	Gateway netip.Addr
	MTU     int // 0 is 1500
	NoICC   bool
	NoMasq  bool
	HostIP  netip.Addr // --ip: where ports are published by default
	// LocalPorts lets ports published on 127.0.0.1 reach containers; only with our
	// firewall in place, which drops what outsiders would send there.
	LocalPorts bool
	// PoolSize is how many namespaces are kept ready while nothing happens; up to growth
	// times as many under load. 0 keeps none.
	PoolSize int
}

// Driver is one bridge: the device on the host, and the containers' ports on it.
type Driver struct {
	cfg     Config
	gateway netip.Addr
	dev     *device
	sweeper *sweeper
	ips     *ipam.Pool
	ports   *maker // nil until Open

	closed  atomic.Bool
	closing chan struct{}
}

// New describes a bridge; Open makes it.
func New(cfg Config) *Driver {
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	dev, closing := newDevice(cfg), make(chan struct{})
	return &Driver{cfg: cfg, dev: dev, sweeper: newSweeper(dev, closing), closing: closing}
}

// Subnet is the bridge's address with its prefix length; valid after Prepare.
func (d *Driver) Subnet() netip.Prefix { return d.dev.subnet }

// Prepare finds or makes the bridge and settles its subnet: the first half of Open,
// for callers that need the subnet before.
func (d *Driver) Prepare() error { return d.dev.open() }

// Open implements networks.Driver.
func (d *Driver) Open(context.Context) (_ networks.Facts, err error) {
	if err := d.Prepare(); err != nil {
		return networks.Facts{}, err
	}
	d.gateway = d.dev.subnet.Addr()
	if d.cfg.Gateway.IsValid() {
		if !d.dev.subnet.Contains(d.cfg.Gateway) {
			return networks.Facts{}, fmt.Errorf("default gateway %s is not in the bridge's subnet %s: %w", d.cfg.Gateway, d.dev.subnet.Masked(), errdefs.ErrInvalidArgument)
		}
		d.gateway = d.cfg.Gateway
	}
	if d.ips, err = ipam.New(d.dev.subnet, d.cfg.Range, d.dev.subnet.Addr(), d.gateway); err != nil {
		return networks.Facts{}, err
	}
	if d.cfg.LocalPorts {
		if err := netlink.WriteSysctl("net/ipv4/conf/"+d.cfg.Name+"/route_localnet", "1"); err != nil {
			return networks.Facts{}, err
		}
	}
	d.ports = newMaker(d.dev, d.ips, d.gateway, d.closing)
	return d.facts(), nil
}

func (d *Driver) facts() networks.Facts {
	host := "0.0.0.0"
	if d.cfg.HostIP.IsValid() {
		host = d.cfg.HostIP.String()
	}
	return networks.Facts{
		Subnet: d.dev.subnet.Masked(), Range: d.cfg.Range, Gateway: d.gateway,
		Options: map[string]string{
			"com.docker.network.bridge.default_bridge":       "true",
			"com.docker.network.bridge.enable_icc":           strconv.FormatBool(!d.cfg.NoICC),
			"com.docker.network.bridge.enable_ip_masquerade": strconv.FormatBool(!d.cfg.NoMasq),
			"com.docker.network.bridge.host_binding_ipv4":    host,
			"com.docker.network.bridge.name":                 d.cfg.Name,
			"com.docker.network.driver.mtu":                  strconv.Itoa(d.cfg.MTU),
		},
	}
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
	d.sweeper.work.Wait()
	if remove {
		d.sweeper.clear(0)
	}
	if d.ports != nil {
		d.ports.pool.Stop()
	}
	return d.dev.close(remove)
}

// Attach implements networks.Driver.
func (d *Driver) Attach(_ context.Context, j networks.Join) (_ networks.Attached, err error) {
	if j.NetNS != nil {
		return networks.Attached{}, fmt.Errorf("the default bridge can only be a container's first network: %w", errdefs.ErrNotImplemented)
	}
	p, err := d.ports.take(j.IPv4)
	if err != nil {
		return networks.Attached{}, err
	}
	failpoint.Hit("gantryd.net-taken")
	if err := p.adapt(j); err != nil {
		d.ports.discard(p)
		return networks.Attached{}, err
	}
	return networks.Attached{NetNS: p.ns, Endpoint: spec.Endpoint{
		Interface: p.iface, HostVeth: p.veth, MAC: p.mac.String(),
		IPv4: netip.PrefixFrom(p.addr, d.dev.subnet.Bits()), Gateway4: d.gateway,
	}}, nil
}

// Restore implements networks.Driver.
func (d *Driver) Restore(_ context.Context, ep spec.Endpoint) error {
	d.sweeper.spare(ep.HostVeth)
	return d.ips.Take(ep.IPv4.Addr())
}

// Detach implements networks.Driver. The veth goes with its namespace.
func (d *Driver) Detach(_ context.Context, ep spec.Endpoint) error {
	d.sweeper.forget(ep.HostVeth)
	d.ips.Free(ep.IPv4.Addr())
	return nil
}
