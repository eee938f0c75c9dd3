package bridge

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gantry-engine/gantry/internal/driver/network/inside"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/kit/warm"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// port is an interface of a container, attached, addressed and up, with the namespace it is in.
type port struct {
	ns        *os.File
	veth      string
	four, six netip.Prefix // invalid: none of that family
	mac       net.HardwareAddr
	iface     string
	prepared  bool // names can be asked for in the namespace
}

// adapt gives a ready port what only this container wants.
func (p *port) adapt(j networks.Join) error {
	if len(j.MAC) > 0 && !slices.Equal(j.MAC, p.mac) {
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
	d    *Driver
	pool *warm.Pool[*port]
	seq  atomic.Uint32 // the last veth's number; begins anywhere, as a former daemon's veths may still be there
	// hairpin: the kernel translates bridged packets itself (bridge-nf-call-iptables)
	// and then sends a container's packet to its own published port back by the bridge.
	hairpin bool
}

// growth is how much larger the pool gets under load.
const growth = 4

// idleOthers is how many namespaces a network other than the default one keeps ready while nothing happens: there may be many
// networks.
const idleOthers = 2

// first is the name of a container's first interface: the one that ready namespaces have.
const first = "eth0"

func newMaker(d *Driver) *maker {
	m := &maker{d: d}
	m.seq.Store(rand.Uint32())
	// Ready namespaces hold addresses: a small network keeps most of them for containers.
	most := 1 << 20
	for _, a := range []networks.Addresses{d.space.V4, d.space.V6} {
		if a != nil {
			most = min(most, a.Size()/8)
		}
	}
	idle := d.kind.PoolSize
	if !d.dev.builtin {
		idle = min(idle, idleOthers)
	}
	size := warm.Size{Idle: min(idle, most), Limit: min(growth*d.kind.PoolSize, most)}
	m.pool = warm.New(size, warm.Maker[*port]{Begin: m.begin, Drop: func(p *port) { m.discard(p, true) }})
	call, err := netlink.ReadSysctl("net.bridge.bridge-nf-call-iptables")
	m.hairpin = err == nil && call == "1"
	return m
}

// take gives a port as the container wants it: a ready one, changed to its wishes, or one made for certain addresses.
func (m *maker) take(j networks.Join) (*port, error) {
	if !j.IPv4.IsValid() && !j.IPv6.IsValid() {
		p, err := m.pool.Take()
		if err != nil || j.NetNS == nil && len(j.LinkLocal) == 0 && j.Interface == first {
			return p, err
		}
		return p, m.transplant(p, j)
	}
	p := &port{ns: j.NetNS, iface: j.Interface}
	if err := m.reserve(p, j.IPv4, j.IPv6); err != nil {
		return nil, err
	}
	if err := m.make(p, j.LinkLocal); err != nil {
		if j.NetNS != nil {
			err = errors.Join(err, inside.Remove(j.NetNS, p.iface))
		}
		m.giveBack(p, false)
		return nil, err
	}
	return p, nil
}

// transplant gives a ready port another name, and the namespace of a container that has one.
func (m *maker) transplant(p *port, j networks.Join) (err error) {
	from, foreign := p.ns, j.NetNS != nil
	defer func() {
		if err != nil {
			_ = from.Close() // with the interface, wherever it is: it has no user
			m.giveBack(p, true)
		}
	}()
	c, err := netlink.OpenOwn(from)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.Link(p.iface)
	if err != nil {
		return err
	}
	to := from
	if foreign {
		to = j.NetNS
	}
	if foreign {
		err = c.MoveTo(l.Index, to, j.Interface)
	} else if err = c.SetDown(l.Index); err == nil {
		err = c.Rename(l.Index, j.Interface)
	}
	if err != nil {
		return err
	}
	p.iface = j.Interface
	if err := m.settle(to, p, j.LinkLocal, foreign); err != nil {
		if foreign {
			err = errors.Join(err, inside.Remove(to, p.iface))
		}
		return err
	}
	if foreign {
		p.ns, p.prepared = to, false
		_ = from.Close()
	}
	return nil
}

// settle sets a port's interface up in its namespace; foreign says that this one has another network's default routes.
func (m *maker) settle(ns *os.File, p *port, linkLocal []netip.Addr, foreign bool) error {
	in := inside.Interface{Name: p.iface, Addresses: []netip.Prefix{p.four, p.six}, LinkLocal: linkLocal, Foreign: foreign}
	if !foreign {
		in.Gateways = []netip.Addr{m.d.gateway(p.four.Addr()), m.d.gateway(p.six.Addr())}
	}
	return inside.Set(ns, in)
}

// reserve gives a port its addresses: certain ones, or any.
func (m *maker) reserve(p *port, four, six netip.Addr) (err error) {
	get := func(a networks.Addresses, wanted netip.Addr) (netip.Prefix, error) {
		switch {
		case a == nil:
			return netip.Prefix{}, nil
		case wanted.IsValid():
			return a.Take(wanted)
		}
		return a.Next()
	}
	if p.four, err = get(m.d.space.V4, four); err != nil {
		return err
	}
	if p.six, err = get(m.d.space.V6, six); err != nil && p.four.IsValid() {
		m.d.space.V4.Return(p.four.Addr())
	}
	return err
}

// giveBack returns a port's addresses.
func (m *maker) giveBack(p *port, unused bool) {
	for _, one := range []struct {
		from networks.Addresses
		a    netip.Prefix
	}{{m.d.space.V4, p.four}, {m.d.space.V6, p.six}} {
		switch {
		case one.from == nil || !one.a.IsValid():
		case unused:
			one.from.Return(one.a.Addr())
		default:
			one.from.Free(one.a.Addr())
		}
	}
}

// begin takes the next free addresses; what it returns makes the port.
func (m *maker) begin() func() (*port, error) {
	p := &port{iface: first}
	err := m.reserve(p, netip.Addr{}, netip.Addr{})
	return func() (*port, error) {
		if err != nil {
			return nil, err
		}
		if err := m.make(p, nil); err != nil {
			m.giveBack(p, true)
			return nil, err
		}
		return p, nil
	}
}

// make makes a port whose addresses are reserved, in its namespace or in one of its own. If that fails, the addresses are
// the caller's to give back.
func (m *maker) make(p *port, linkLocal []netip.Addr) (err error) {
	p.mac, p.veth = m.mac(p), fmt.Sprintf("%s%08x", m.d.dev.prefix, m.seq.Add(1))
	brings := p.ns == nil
	if brings {
		if p.ns, err = inside.New(p.six.IsValid()); err != nil {
			return err
		}
		failpoint.Hit("gantryd.net-namespace")
		if m.d.kind.Prepare != nil && !m.d.dev.builtin {
			// Without it the container is served all the same, or its start says why not.
			p.prepared = m.d.kind.Prepare(p.ns) == nil
		}
	}
	if err := m.plug(p, linkLocal, brings); err != nil {
		if brings {
			_ = p.ns.Close()
		}
		return err
	}
	return nil
}

// mac is the hardware address that belongs to a port's IP address.
func (m *maker) mac(p *port) net.HardwareAddr {
	switch {
	case p.four.IsValid():
		return macOf(p.four.Addr())
	case p.six.IsValid():
		return macOf(p.six.Addr())
	}
	r := rand.Uint32()
	return net.HardwareAddr{0x02, 0x42, byte(r >> 24), byte(r >> 16), byte(r >> 8), byte(r)}
}

func (m *maker) plug(p *port, linkLocal []netip.Addr, brings bool) error {
	if err := m.addPair(m.pair(p)); err != nil {
		return err
	}
	failpoint.Hit("gantryd.net-pair")
	return m.settle(p.ns, p, linkLocal, !brings)
}

// pair is what a port is made of. It has only the options it needs, as each has its price.
func (m *maker) pair(p *port) netlink.Pair {
	return netlink.Pair{
		Name: p.veth, Bridge: m.d.dev.index, NS: p.ns, PeerName: p.iface, PeerMAC: p.mac, MTU: m.d.opts.mtu, Hairpin: m.hairpin,
		// Where the kernel passes bridged packets through the packet rules, these keep
		// containers apart. An isolated port would then also lose what a neighbour sends to a
		// published port, as that is translated without leaving the bridge.
		Isolated: !m.d.opts.icc && !(m.hairpin && m.d.kind.LocalPorts),
	}
}

// fullPatience is how long a full bridge is asked again: the kernel is slow to take an interface away whose
// container has ended.
var fullPatience = time.Second

// addPair makes a pair whose host end is a port of the bridge.
func (m *maker) addPair(p netlink.Pair) error {
	conn := m.d.dev.conn
	err := conn.AddPair(p)
	for end := time.Now().Add(fullPatience); errors.Is(err, netlink.ErrBridgeFull) && time.Now().Before(end); err = conn.AddPair(p) {
		select {
		case <-m.d.closing:
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
	if !errors.Is(err, netlink.ErrBridgeFull) {
		return err
	}
	return fmt.Errorf("bridge %s is full: the kernel puts at most %d interfaces on one bridge, and every container on this network has one there; "+
		"stop some containers, or start some with --network host, none or container:<name> (%w)", m.d.dev.name, netlink.BridgePorts, err)
}

// discard ends a port that nobody has used. brought says that its namespace came with it.
func (m *maker) discard(p *port, brought bool) {
	if brought {
		_ = p.ns.Close() // the kernel takes the veth along
	}
	m.giveBack(p, true)
}
