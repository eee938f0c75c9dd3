// Package lower is what macvlan and ipvlan networks have in common: the containers' interfaces stand on one of the host's,
// the lower device or parent. It is the user's, or made here: the 802.1q interface of a VLAN, or one that leads nowhere.
package lower

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/label"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Devices are an engine's lower devices, and which networks stand on each. All kinds share one.
type Devices struct {
	engine string

	mu    sync.Mutex
	users map[string][]Use // by the device's name
}

// Use is one network's use of a device.
type Use struct {
	Network string // ID
	Kind    string // macvlan or ipvlan: the kernel takes only one of them on a device
	// Alone says that nobody else of this kind may be there: an ipvlan network, macvlan in the mode passthru.
	Alone bool
}

// NewDevices makes the book. engine tells this engine's interfaces from others' on the same host.
func NewDevices(engine string) *Devices {
	return &Devices{engine: engine, users: map[string][]Use{}}
}

// dummyName is the device of a network that names none.
func dummyName(network string) string { return "dm-" + network[:min(12, len(network))] }

// acquire finds or makes a device and notes who uses it; doing it again finds a device that is gone anew. conn is in the
// host's namespace, of netlink.OpenForPairs.
func (d *Devices) acquire(conn *netlink.Conn, name string, u Use) (netlink.Link, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, other := range d.users[name] {
		if err := clash(name, other, u); err != nil {
			return netlink.Link{}, err
		}
	}
	l, err := conn.Link(name)
	if errors.Is(err, os.ErrNotExist) {
		l, err = d.make(conn, name, u)
	}
	if err != nil {
		return netlink.Link{}, err
	}
	if !slices.Contains(d.users[name], u) {
		d.users[name] = append(d.users[name], u)
	}
	return l, nil
}

// clash tells why two networks cannot stand on one device.
func clash(name string, there, u Use) error {
	switch {
	case there.Network == u.Network:
		return nil
	case there.Kind != u.Kind:
		return fmt.Errorf("%s network %s is already using parent interface %s, which the kernel gives to one of macvlan and ipvlan only: %w",
			there.Kind, there.Network, name, errdefs.ErrPermissionDenied)
	case u.Kind == "macvlan" && u.Alone:
		return fmt.Errorf("cannot use mode passthru, macvlan network %s is already using parent interface %s: %w", there.Network, name, errdefs.ErrPermissionDenied)
	case u.Kind == "macvlan" && there.Alone:
		return fmt.Errorf("macvlan network %s is already using parent interface %s in mode passthru: %w", there.Network, name, errdefs.ErrPermissionDenied)
	case u.Alone || there.Alone:
		return fmt.Errorf("network %s is already using parent interface %s: another parent or a VLAN of it (%s.<id>) is needed: %w", there.Network, name, name, errdefs.ErrPermissionDenied)
	}
	return nil
}

// make makes a device, under a name that tells it from a finished one until it has its label.
func (d *Devices) make(conn *netlink.Conn, name string, u Use) (l netlink.Link, err error) {
	if name == dummyName(u.Network) {
		l, err = conn.AddDummy(label.Spare(d.engine))
		if errors.Is(err, netlink.ErrNoSuchKind) {
			return l, fmt.Errorf("a network without a parent interface needs the kernel's dummy interfaces (CONFIG_DUMMY): name a parent with -o parent=<interface>: %w: %w", err, errdefs.ErrFailedPrecondition)
		}
	} else {
		l, err = d.vlan(conn, name)
	}
	if err != nil {
		return l, err
	}
	failpoint.Hit("gantryd.lower-unnamed")
	if err := conn.Label(l.Index, name, label.Network(d.engine, u.Network)); err != nil {
		return l, errors.Join(err, conn.Delete(l))
	}
	l.Name, l.Up = name, true
	return l, nil
}

// vlan makes the interface of a VLAN, named as parent.id.
func (d *Devices) vlan(conn *netlink.Conn, name string) (netlink.Link, error) {
	under, tag, ok := cutLast(name)
	if !ok {
		return netlink.Link{}, fmt.Errorf("parent interface %s does not exist on this host: name one that does, or a VLAN of one, as eth0.10: %w", name, errdefs.ErrInvalidArgument)
	}
	id, err := strconv.Atoi(tag)
	if err != nil || id < 1 || id > 4094 {
		return netlink.Link{}, fmt.Errorf("parent interface %s: vlan id must be between 1-4094, received: %s: %w", name, tag, errdefs.ErrInvalidArgument)
	}
	parent, err := conn.Link(under)
	if errors.Is(err, os.ErrNotExist) {
		return parent, fmt.Errorf("failed to find master interface %s of parent %s on this host: %w", under, name, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return parent, err
	}
	if !parent.Up {
		return parent, fmt.Errorf("interface %s, which parent %s is a VLAN of, is down: bring it up first (ip link set %s up): %w", under, name, under, errdefs.ErrFailedPrecondition)
	}
	l, err := conn.AddVLAN(label.Spare(d.engine), parent.Index, id)
	if errors.Is(err, netlink.ErrNoSuchKind) {
		return l, fmt.Errorf("parent interface %s: this kernel has no 802.1q VLANs (module 8021q): %w: %w", name, err, errdefs.ErrFailedPrecondition)
	}
	if errors.Is(err, os.ErrExist) {
		return l, fmt.Errorf("parent interface %s: VLAN %d of %s has an interface of another name already, use that one: %w: %w", name, id, under, err, errdefs.ErrInvalidArgument)
	}
	return l, err
}

func cutLast(name string) (before, after string, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i <= 0 {
		return name, "", false
	}
	return name[:i], name[i+1:], true
}

// release ends a network's use of a device; with remove, what is the engine's goes with its last user. It keeps conn if
// done is nil, and otherwise calls it when conn is needed no more: the kernel takes tens of milliseconds.
func (d *Devices) release(conn *netlink.Conn, name, network string, remove bool, done func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	rest := slices.DeleteFunc(d.users[name], func(u Use) bool { return u.Network == network })
	d.users[name] = rest
	if len(rest) == 0 {
		delete(d.users, name)
	}
	if !remove {
		done()
		return nil
	}
	l, err := conn.Link(name)
	if err != nil {
		done()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	id, ours := label.Owner(l.Alias, d.engine)
	if !ours || len(rest) > 0 {
		defer done()
		if ours && id == network { // whose it is must be a network that there is
			return conn.SetLabel(l.Index, label.Network(d.engine, rest[0].Network))
		}
		return nil
	}
	if err := conn.Retire(l.Index, label.Spare(d.engine), label.Removed(d.engine)); err != nil {
		defer done()
		return conn.Delete(l)
	}
	failpoint.Hit("gantryd.lower-retired")
	go func() {
		defer done()
		if err := conn.Delete(l); err != nil {
			slog.Warn("the parent interface of a removed network stays", "interface", name, "error", err)
		}
	}()
	return nil
}

// Sweep takes away what former daemons made for networks that are not known.
func (d *Devices) Sweep(_ context.Context, known func(id string) bool) error {
	d.mu.Lock() // nothing is being made
	defer d.mu.Unlock()
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
		if l.Kind != "dummy" && l.Kind != "vlan" {
			continue
		}
		id, ours := label.Owner(l.Alias, d.engine)
		if ours && !known(id) && len(d.users[l.Name]) == 0 || l.Alias == "" && label.IsSpare(l.Name, d.engine) {
			errs = append(errs, c.Delete(l))
		}
	}
	return errors.Join(errs...)
}
