package bridge

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/kit/warm"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// port is a namespace with its interface attached, addressed and up.
type port struct {
	ns    *os.File
	veth  string
	addr  netip.Addr
	mac   net.HardwareAddr
	iface string
}

// adapt gives a ready port what only this container wants.
func (p *port) adapt(j networks.Join) error {
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

// maker makes the bridge's ports, on demand and in advance.
type maker struct {
	dev     *device
	ips     *ipam.Pool
	gateway netip.Addr
	closing <-chan struct{}
	pool    *warm.Pool[*port]
	seq     atomic.Uint32 // the last veth's number; begins anywhere, as a former daemon's veths may still be there
	// hairpin: the kernel translates bridged packets itself (bridge-nf-call-iptables)
	// and then sends a container's packet to its own published port back by the bridge.
	hairpin bool
}

// growth is how much larger the pool gets under load.
const growth = 4

func newMaker(dev *device, ips *ipam.Pool, gateway netip.Addr, closing <-chan struct{}) *maker {
	m := &maker{dev: dev, ips: ips, gateway: gateway, closing: closing}
	m.seq.Store(rand.Uint32())
	// Ready namespaces hold addresses: a small network keeps most of them for containers.
	most := ips.Size() / 8
	size := warm.Size{Idle: min(dev.cfg.PoolSize, most), Limit: min(growth*dev.cfg.PoolSize, most)}
	m.pool = warm.New(size, warm.Maker[*port]{Begin: m.begin, Drop: m.discard})
	call, err := netlink.ReadSysctl("net.bridge.bridge-nf-call-iptables")
	m.hairpin = err == nil && call == "1"
	return m
}

// take gives the port of an address, or of any if addr is invalid.
func (m *maker) take(addr netip.Addr) (*port, error) {
	if addr.IsValid() {
		if err := m.ips.Take(addr); err != nil {
			return nil, err
		}
		made, err := m.makeAt(addr)
		if err != nil {
			m.ips.Free(addr)
		}
		return made, err
	}
	return m.pool.Take()
}

// begin takes the next free address; what it returns makes the port.
func (m *maker) begin() func() (*port, error) {
	addr, err := m.ips.Next()
	return func() (*port, error) {
		if err != nil {
			return nil, err
		}
		made, err := m.makeAt(addr)
		if err != nil {
			m.ips.Return(addr)
		}
		return made, err
	}
}

// makeAt makes a port. If that fails, addr is the caller's to give back.
func (m *maker) makeAt(addr netip.Addr) (_ *port, err error) {
	p := &port{addr: addr, mac: macOf(addr), iface: "eth0", veth: fmt.Sprintf("%s%08x", m.dev.prefix, m.seq.Add(1))}
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
	if err := m.plug(p); err != nil {
		_ = p.ns.Close()
		return nil, err
	}
	return p, nil
}

func (m *maker) plug(p *port) error {
	if err := m.addPair(m.pair(p)); err != nil {
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
	if err := c.AddAddress(l.Index, netip.PrefixFrom(p.addr, m.dev.subnet.Bits())); err != nil {
		return err
	}
	return c.AddDefaultRoute(l.Index, m.gateway)
}

// pair is what a port is made of. It has only the options it needs, as each has its price.
func (m *maker) pair(p *port) netlink.Pair {
	return netlink.Pair{
		Name: p.veth, Bridge: m.dev.index, NS: p.ns, PeerName: p.iface, PeerMAC: p.mac, MTU: m.dev.cfg.MTU, Hairpin: m.hairpin,
		// Where the kernel passes bridged packets through the packet rules, these keep
		// containers apart. An isolated port would then also lose what a neighbour sends to a
		// published port, as that is translated without leaving the bridge.
		Isolated: m.dev.cfg.NoICC && !(m.hairpin && m.dev.cfg.LocalPorts),
	}
}

// fullPatience is how long a full bridge is asked again: the kernel is slow to take an interface away whose
// container has ended.
var fullPatience = time.Second

// addPair makes a pair whose host end is a port of the bridge.
func (m *maker) addPair(p netlink.Pair) error {
	err := m.dev.conn.AddPair(p)
	for end := time.Now().Add(fullPatience); errors.Is(err, netlink.ErrBridgeFull) && time.Now().Before(end); err = m.dev.conn.AddPair(p) {
		select {
		case <-m.closing:
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
	if !errors.Is(err, netlink.ErrBridgeFull) {
		return err
	}
	return fmt.Errorf("bridge %s is full: the kernel puts at most %d interfaces on one bridge, and every container on this network has one there; "+
		"stop some containers, or start some with --network host, none or container:<name> (%w)", m.dev.cfg.Name, netlink.BridgePorts, err)
}

// discard ends a port that nobody has used.
func (m *maker) discard(p *port) {
	_ = p.ns.Close() // the kernel takes the veth along
	m.ips.Return(p.addr)
}
