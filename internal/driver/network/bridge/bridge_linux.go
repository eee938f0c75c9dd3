// Package bridge is the driver of the default network: a Linux bridge on the host,
// a veth pair per container, IPv4 addresses from one subnet. Namespaces with their
// interface in place are kept warm.
package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/kit/warm"
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

const growth = 4

// Driver is one bridge.
type Driver struct {
	cfg     Config
	index   int
	subnet  netip.Prefix // with the bridge's address
	gateway netip.Addr
	pool    *warm.Pool[*port]
	ips     *ipam.Pool
	conn    *netlink.Conn
	prefix  string        // of our veths' names
	seq     atomic.Uint32 // the last veth's number; begins anywhere, as a former daemon's veths may still be there
	// hairpin: the kernel translates bridged packets itself (bridge-nf-call-iptables)
	// and then sends a container's packet to its own published port back by the bridge.
	hairpin bool

	closed  atomic.Bool
	closing chan struct{}
	sweeper sync.WaitGroup

	mu   sync.Mutex
	live map[string]bool // host ends of restored containers
}

// port is a namespace with its interface attached, addressed and up.
type port struct {
	ns    *os.File
	veth  string
	addr  netip.Addr
	mac   net.HardwareAddr
	iface string
}

// New describes a bridge; Open makes it.
func New(cfg Config) *Driver {
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	sum := sha256.Sum256([]byte(cfg.Name))
	d := &Driver{cfg: cfg, prefix: "gv" + hex.EncodeToString(sum[:2]), live: map[string]bool{}, closing: make(chan struct{})}
	d.seq.Store(rand.Uint32())
	return d
}

// Subnet is the bridge's address with its prefix length; valid after Prepare.
func (d *Driver) Subnet() netip.Prefix { return d.subnet }

// Prepare finds or makes the bridge and settles its subnet: the first half of Open,
// for callers that need the subnet before.
func (d *Driver) Prepare() (err error) {
	if d.conn != nil {
		return nil
	}
	conn, err := netlink.OpenForPairs()
	if err != nil {
		return err
	}
	d.conn = conn
	if err := d.bridge(); err != nil {
		d.conn.Close()
		d.conn = nil
		return err
	}
	return nil
}

// Open implements networks.Driver.
func (d *Driver) Open(context.Context) (_ networks.Facts, err error) {
	if err := d.Prepare(); err != nil {
		return networks.Facts{}, err
	}
	d.gateway = d.subnet.Addr()
	if d.cfg.Gateway.IsValid() {
		if !d.subnet.Contains(d.cfg.Gateway) {
			return networks.Facts{}, fmt.Errorf("default gateway %s is not in the bridge's subnet %s: %w", d.cfg.Gateway, d.subnet.Masked(), errdefs.ErrInvalidArgument)
		}
		d.gateway = d.cfg.Gateway
	}
	if d.ips, err = ipam.New(d.subnet, d.cfg.Range, d.subnet.Addr(), d.gateway); err != nil {
		return networks.Facts{}, err
	}
	// Ready namespaces hold addresses: a small network keeps most of them for containers.
	most := d.ips.Size() / 8
	d.pool = warm.New(warm.Size{Idle: min(d.cfg.PoolSize, most), Limit: min(growth*d.cfg.PoolSize, most)}, warm.Maker[*port]{Begin: d.begin, Drop: d.discard})
	if d.cfg.LocalPorts {
		if err := netlink.WriteSysctl("net/ipv4/conf/"+d.cfg.Name+"/route_localnet", "1"); err != nil {
			return networks.Facts{}, err
		}
	}
	call, err := netlink.ReadSysctl("net.bridge.bridge-nf-call-iptables")
	d.hairpin = err == nil && call == "1"
	return d.facts(), nil
}

func (d *Driver) facts() networks.Facts {
	host := "0.0.0.0"
	if d.cfg.HostIP.IsValid() {
		host = d.cfg.HostIP.String()
	}
	return networks.Facts{
		Subnet: d.subnet.Masked(), Range: d.cfg.Range, Gateway: d.gateway,
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
	left, err := d.orphans()
	if len(left) > 0 {
		d.sweeper.Go(func() { d.sweep(left, d.closing) })
	}
	d.pool.Start()
	return err
}

// Close implements networks.Driver.
func (d *Driver) Close(_ context.Context, remove bool) error {
	if d.conn == nil || d.closed.Swap(true) {
		return nil
	}
	close(d.closing)
	d.sweeper.Wait()
	if d.pool != nil {
		d.pool.Stop()
	}
	var err error
	if remove && !d.cfg.External {
		err = d.conn.Delete(netlink.Link{Index: d.index, Name: d.cfg.Name})
	}
	d.conn.Close()
	return err
}

// Attach implements networks.Driver.
func (d *Driver) Attach(_ context.Context, j networks.Join) (_ networks.Attached, err error) {
	if j.NetNS != nil {
		return networks.Attached{}, fmt.Errorf("the default bridge can only be a container's first network: %w", errdefs.ErrNotImplemented)
	}
	p, err := d.take(j)
	if err != nil {
		return networks.Attached{}, err
	}
	failpoint.Hit("gantryd.net-taken")
	if err := d.adapt(p, j); err != nil {
		d.discard(p)
		return networks.Attached{}, err
	}
	return networks.Attached{NetNS: p.ns, Endpoint: spec.Endpoint{
		Interface: p.iface, HostVeth: p.veth, MAC: p.mac.String(),
		IPv4: netip.PrefixFrom(p.addr, d.subnet.Bits()), Gateway4: d.gateway,
	}}, nil
}

func (d *Driver) take(j networks.Join) (*port, error) {
	if j.IPv4.IsValid() {
		if err := d.ips.Take(j.IPv4); err != nil {
			return nil, err
		}
		p, err := d.makeAt(j.IPv4)
		if err != nil {
			d.ips.Free(j.IPv4)
		}
		return p, err
	}
	return d.pool.Take()
}

// adapt gives a ready port what only this container wants.
func (d *Driver) adapt(p *port, j networks.Join) error {
	if len(j.MAC) > 0 {
		c, err := netlink.Open(p.ns)
		if err != nil {
			return err
		}
		defer c.Close()
		l, err := c.Link(p.iface)
		if err != nil {
			return err
		}
		if err := c.SetMAC(l.Index, j.MAC); err != nil {
			return err
		}
		p.mac = j.MAC
	}
	return netlink.SetSysctls(p.ns, j.Sysctls)
}

// Restore implements networks.Driver.
func (d *Driver) Restore(_ context.Context, ep spec.Endpoint) error {
	d.mu.Lock()
	d.live[ep.HostVeth] = true
	d.mu.Unlock()
	return d.ips.Take(ep.IPv4.Addr())
}

// Detach implements networks.Driver. The veth goes with its namespace.
func (d *Driver) Detach(_ context.Context, ep spec.Endpoint) error {
	d.mu.Lock()
	delete(d.live, ep.HostVeth)
	d.mu.Unlock()
	d.ips.Free(ep.IPv4.Addr())
	return nil
}

// begin takes the next free address; what it returns makes the port.
func (d *Driver) begin() func() (*port, error) {
	addr, err := d.ips.Next()
	return func() (*port, error) {
		if err != nil {
			return nil, err
		}
		p, err := d.makeAt(addr)
		if err != nil {
			d.ips.Return(addr)
		}
		return p, err
	}
}

// makeAt makes a port. If that fails, addr is the caller's to give back.
func (d *Driver) makeAt(addr netip.Addr) (_ *port, err error) {
	p := &port{addr: addr, mac: macOf(addr), iface: "eth0", veth: fmt.Sprintf("%s%08x", d.prefix, d.seq.Add(1))}
	p.ns, err = netlink.NewNamespace(func() error {
		if err := netlink.WriteSysctl("net.ipv6.conf.default.disable_ipv6", "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return netlink.LoopbackUp()
	})
	if err != nil {
		return nil, err
	}
	failpoint.Hit("gantryd.net-namespace")
	if err := d.plug(p); err != nil {
		_ = p.ns.Close()
		return nil, err
	}
	return p, nil
}

func (d *Driver) plug(p *port) error {
	if err := d.addPair(d.pair(p)); err != nil {
		return err
	}
	failpoint.Hit("gantryd.net-pair")
	c, err := netlink.Open(p.ns)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.Link(p.iface)
	if err != nil {
		return err
	}
	if err := c.SetUp(l.Index); err != nil {
		return err
	}
	if err := c.AddAddress(l.Index, netip.PrefixFrom(p.addr, d.subnet.Bits())); err != nil {
		return err
	}
	return c.AddDefaultRoute(l.Index, d.gateway)
}

// pair is what a port is made of. It has only the options it needs, as each has its price.
func (d *Driver) pair(p *port) netlink.Pair {
	return netlink.Pair{
		Name: p.veth, Bridge: d.index, NS: p.ns, PeerName: p.iface, PeerMAC: p.mac, MTU: d.cfg.MTU, Hairpin: d.hairpin,
		// Where the kernel passes bridged packets through the packet rules, these keep
		// containers apart. An isolated port would then also lose what a neighbour sends to a
		// published port, as that is translated without leaving the bridge.
		Isolated: d.cfg.NoICC && !(d.hairpin && d.cfg.LocalPorts),
	}
}

// fullPatience is how long a full bridge is asked again: the kernel is slow to take an interface away whose
// container has ended.
var fullPatience = time.Second

// addPair makes a pair whose host end is a port of the bridge.
func (d *Driver) addPair(p netlink.Pair) error {
	err := d.conn.AddPair(p)
	for end := time.Now().Add(fullPatience); errors.Is(err, netlink.ErrBridgeFull) && time.Now().Before(end); err = d.conn.AddPair(p) {
		select {
		case <-d.closing:
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
	if !errors.Is(err, netlink.ErrBridgeFull) {
		return err
	}
	return fmt.Errorf("bridge %s is full: the kernel puts at most %d interfaces on one bridge, and every container on this network has one there; "+
		"stop some containers, or start some with --network host, none or container:<name> (%w)", d.cfg.Name, netlink.BridgePorts, err)
}

// discard ends a port that nobody has used.
func (d *Driver) discard(p *port) {
	_ = p.ns.Close() // the kernel takes the veth along
	d.ips.Return(p.addr)
}

// macOf derives the hardware address from the IP, so that an address that comes
// back to another container does not meet stale ARP entries.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}
