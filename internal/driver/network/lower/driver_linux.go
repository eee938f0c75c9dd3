package lower

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/inside"
	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/kit/warm"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Env is what the networks of an engine share.
type Env struct {
	Devices *Devices
	// PoolSize is how many namespaces a network keeps ready under load; 0 keeps none. Interfaces are made on demand:
	// one that waits would answer on the user's network for an address that nobody has.
	PoolSize int
	// Prepare makes ready what asks for names in a namespace, if not nil.
	Prepare func(ns *os.File) error
}

// Plan is what makes a network one of its kind.
type Plan struct {
	Kind   string
	Parent string // empty makes one that leads nowhere
	Alone  bool   // see Use
	// Make makes a container's interface.
	Make func(c *netlink.Conn, ch netlink.Child) error
	// MACs are the containers' own; without it all have the parent's.
	MACs bool
	// Kept says that the parent's hardware address is taken whatever is asked for, until it is changed (passthru).
	Kept bool
	// Routed has containers send everything to the interface, without a gateway.
	Routed bool
	MTU    int // 0 is the parent's
}

// Driver is one network on a lower device. It implements networks.Driver.
type Driver struct {
	env   Env
	net   spec.Network
	plan  Plan
	space networks.Space
	pool  *warm.Pool[*os.File]

	mu    sync.Mutex
	conn  *netlink.Conn // nil unless open
	index int           // of the parent
}

// New makes the driver of a settled network.
func New(env Env, n spec.Network, space networks.Space, plan Plan) *Driver {
	if plan.Parent == "" {
		plan.Parent = dummyName(n.ID)
		n.Internal = true // nothing else is there
	}
	d := &Driver{env: env, net: n, plan: plan, space: space}
	d.pool = warm.New(warm.Size{Idle: min(1, env.PoolSize), Limit: env.PoolSize}, warm.Maker[*os.File]{
		Begin: func() func() (*os.File, error) { return d.namespace },
		Drop:  func(f *os.File) { _ = f.Close() },
	})
	return d
}

// Open implements networks.Driver.
func (d *Driver) Open(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		return nil
	}
	conn, err := netlink.OpenForPairs()
	if err != nil {
		return err
	}
	d.conn = conn
	if err := d.find(); err != nil {
		d.conn.Close()
		d.conn = nil
		return err
	}
	failpoint.Hit("gantryd.lower-made")
	return nil
}

// find finds or makes the parent. The caller holds the lock.
func (d *Driver) find() error {
	l, err := d.env.Devices.acquire(d.conn, d.plan.Parent, Use{Network: d.net.ID, Kind: d.plan.Kind, Alone: d.plan.Alone})
	if err == nil {
		d.index = l.Index
	}
	return err
}

// Ready implements networks.Driver. Containers' interfaces go with their namespaces: a dead daemon leaves none.
func (d *Driver) Ready(context.Context) error {
	d.pool.Start()
	return nil
}

// Close implements networks.Driver.
func (d *Driver) Close(_ context.Context, remove bool) error {
	d.pool.Stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return nil
	}
	conn := d.conn
	d.conn = nil
	return d.env.Devices.release(conn, d.plan.Parent, d.net.ID, remove, conn.Close)
}

// namespace makes a container's namespace.
func (d *Driver) namespace() (*os.File, error) {
	ns, err := inside.New(d.net.EnableIPv6)
	if err != nil {
		return nil, err
	}
	if d.env.Prepare != nil {
		if err := d.env.Prepare(ns); err != nil {
			_ = ns.Close()
			return nil, err
		}
	}
	return ns, nil
}

// Attach implements networks.Driver.
func (d *Driver) Attach(ctx context.Context, j networks.Join) (_ networks.Attached, err error) {
	if len(j.MAC) > 0 && !d.plan.MACs {
		return networks.Attached{}, fmt.Errorf("%s interfaces do not support custom mac address assignment: all have the parent's: %w", d.plan.Kind, errdefs.ErrInvalidArgument)
	}
	lease, err := ipam.Lend(d.space, j.IPv4, j.IPv6)
	if err != nil {
		return networks.Attached{}, err
	}
	defer func() {
		if err != nil {
			lease.Return()
		}
	}()
	ns := j.NetNS
	if ns == nil {
		if ns, err = d.pool.Take(); err != nil {
			return networks.Attached{}, err
		}
		defer func() {
			if err != nil {
				_ = ns.Close()
			}
		}()
	}
	ep := spec.Endpoint{
		Interface: j.Interface, IPv4: lease.Four, IPv6: lease.Six, Gateway4: d.gateway(lease.Four.Addr()), Gateway6: d.gateway(lease.Six.Addr()),
	}
	if err := d.plug(ctx, ns, j, &ep); err != nil {
		return networks.Attached{}, err
	}
	a := networks.Attached{Endpoint: ep}
	if j.NetNS == nil {
		a.NetNS, a.Prepared = ns, d.env.Prepare != nil
	}
	return a, nil
}

// plug makes an endpoint's interface in a namespace and sets it up; what fails leaves none.
func (d *Driver) plug(ctx context.Context, ns *os.File, j networks.Join, ep *spec.Endpoint) (err error) {
	mac := j.MAC
	if len(mac) == 0 && d.plan.MACs && !d.plan.Kept {
		mac = macOf(ep)
	}
	ch := netlink.Child{NS: ns, Name: j.Interface, MAC: mac, MTU: d.plan.MTU}
	err = d.patiently(ctx, func() error { return d.make(ch) })
	if errors.Is(err, syscall.EEXIST) && j.NetNS != nil && inside.KindOf(ns, j.Interface) == d.plan.Kind {
		// A daemon that was killed while it connected the container has left it: nobody else knows of it.
		if err = inside.Remove(ns, j.Interface); err == nil {
			err = d.patiently(ctx, func() error { return d.make(ch) })
		}
	}
	if err != nil {
		return d.explain(err)
	}
	failpoint.Hit("gantryd.lower-plugged")
	defer func() {
		if err != nil && j.NetNS != nil {
			err = errors.Join(err, inside.Remove(ns, j.Interface))
		}
	}()
	in := inside.Interface{Name: j.Interface, Addresses: []netip.Prefix{ep.IPv4, ep.IPv6}, LinkLocal: j.LinkLocal, Foreign: j.NetNS != nil}
	if d.plan.Kept {
		in.MAC = j.MAC
	}
	if j.NetNS == nil {
		in.Gateways = []netip.Addr{ep.Gateway4, ep.Gateway6}
	}
	if err := d.patiently(ctx, func() error { return inside.Set(ns, in) }); err != nil {
		return d.explain(err)
	}
	if d.plan.Kept && len(mac) == 0 {
		if mac, err = macAt(ns, j.Interface); err != nil {
			return err
		}
	}
	ep.MAC = mac.String()
	return netlink.SetSysctls(ns, j.Sysctls)
}

// make makes a child of the parent, which somebody may have taken away and put back meanwhile.
func (d *Driver) make(ch netlink.Child) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return fmt.Errorf("network %s is closed: %w", d.net.Name, errdefs.ErrUnavailable)
	}
	ch.Parent = d.index
	err := d.plan.Make(d.conn, ch)
	if !errors.Is(err, syscall.ENODEV) {
		return err
	}
	if err := d.find(); err != nil {
		return err
	}
	ch.Parent = d.index
	return d.plan.Make(d.conn, ch)
}

// patience is how long the interface of a container that has ended may be in the way of one with the same address: the
// kernel takes it away a moment after its namespace.
const patience = 2 * time.Second

func (d *Driver) patiently(ctx context.Context, do func() error) error {
	err := do()
	for end := time.Now().Add(patience); d.inTheWay(err) && time.Now().Before(end); err = do() {
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return err
}

// inTheWay tells of errors that end with another container's interface.
func (d *Driver) inTheWay(err error) bool {
	return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EADDRINUSE) || d.plan.Kept && errors.Is(err, syscall.EINVAL)
}

// explain says what would help.
func (d *Driver) explain(err error) error {
	parent := d.plan.Parent
	switch {
	case errors.Is(err, netlink.ErrNoSuchKind):
		return fmt.Errorf("this kernel has no %s interfaces (module %s): %w: %w", d.plan.Kind, d.plan.Kind, err, errdefs.ErrFailedPrecondition)
	case errors.Is(err, syscall.ENETDOWN):
		return fmt.Errorf("parent interface %s is down, bring it up first (ip link set %s up): %w: %w", parent, parent, err, errdefs.ErrFailedPrecondition)
	case d.plan.Kept && errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("parent interface %s has a container in the mode passthru, which takes one only: %w: %w", parent, err, errdefs.ErrPermissionDenied)
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("parent interface %s is in use by another program (a bridge, a bond, ipvlan beside macvlan): %w: %w", parent, err, errdefs.ErrFailedPrecondition)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("another interface on parent %s has this address: %w: %w", parent, err, errdefs.ErrAlreadyExists)
	}
	return err
}

// gateway is the default route of the containers of an address's subnet; invalid if there is none, unspecified if it is the
// interface itself.
func (d *Driver) gateway(a netip.Addr) netip.Addr {
	switch {
	case !a.IsValid() || d.net.Internal:
		return netip.Addr{}
	case d.plan.Routed && a.Is4():
		return netip.IPv4Unspecified()
	case d.plan.Routed:
		return netip.IPv6Unspecified()
	}
	return d.net.Gateway(a)
}

// Restore implements networks.Driver.
func (d *Driver) Restore(_ context.Context, ep spec.Endpoint) error { return ipam.Relend(d.space, ep) }

// Unplug implements networks.Driver.
func (d *Driver) Unplug(_ context.Context, ep spec.Endpoint, ns *os.File) error {
	return inside.Remove(ns, ep.Interface)
}

// Detach implements networks.Driver.
func (d *Driver) Detach(_ context.Context, ep spec.Endpoint) error {
	ipam.LeaseOf(d.space, ep).Free()
	return nil
}

// macOf is the hardware address that belongs to an endpoint's address, so that an address that comes back does not meet
// stale entries in neighbours' tables.
func macOf(ep *spec.Endpoint) net.HardwareAddr {
	mac := net.HardwareAddr{0x02, 0x42, byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32())}
	for _, p := range []netip.Prefix{ep.IPv4, ep.IPv6} {
		if p.IsValid() {
			b := p.Addr().AsSlice()
			return slices.Concat(mac[:2], b[len(b)-4:])
		}
	}
	return mac
}

func macAt(ns *os.File, name string) (net.HardwareAddr, error) {
	c, err := netlink.Open(ns)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	l, err := c.Link(name)
	return l.MAC, err
}
