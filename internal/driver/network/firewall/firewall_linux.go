// Package firewall keeps the packet rules of all networks of the engine in two
// nftables tables of its own, one per address family, over netlink. One transaction
// per change covers both.
//
// The firewall knows the wanted state: networks and published ports. What a network
// is and which ports are open are elements of sets and maps, so that a change costs
// the same whatever their number, and so does a packet. When the tables are found
// damaged they are built again, all at once.
//
// The rules as nft lists them are in testdata; docs/firewall.md tells users what
// they mean.
package firewall

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/trouble"
	rtnetlink "github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Config is what holds for all networks.
type Config struct {
	Table string // name of our tables in the families ip and ip6
	// NoRouter and NoRouter6 drop what would pass between two physical interfaces: the
	// daemon switched forwarding on, and that must not make the host a router.
	NoRouter, NoRouter6 bool
	// DirectRouting lets everybody reach published ports at containers' own addresses
	// (--allow-direct-routing).
	DirectRouting bool
	// RespectHost lets the host's own firewall judge who reaches published ports from
	// outside (--respect-host-firewall).
	RespectHost bool
	// AcceptMark lets packets with this mark into all networks (--bridge-accept-fwmark).
	AcceptMark Mark
}

// Mark is a packet mark with the bits of it that count; the zero value is none.
type Mark struct{ Value, Mask uint32 }

// Firewall changes our tables. Until Rebuild it only notes what is wanted.
type Firewall struct {
	cfg Config

	mu     sync.Mutex
	kernel *kernel
	routes *rtnetlink.Conn
	beside *beside
	wanted *wanted
	tables map[*family]*table // what the kernel has; nil before Rebuild
	built  shape
	loop   *handover

	hostFirewall string // who closes the host's input; empty if nobody

	damaged  atomic.Bool // another program has changed our tables
	watcher  *watcher    // nil before Rebuild
	troubles trouble.Log
}

// New opens a lasting nftables socket. Nothing is changed before Rebuild.
func New(cfg Config) (*Firewall, error) {
	f := &Firewall{cfg: cfg, wanted: newWanted(cfg), loop: newHandover(cfg.Table)}
	var err error
	if f.kernel, err = openKernel(cfg.Table); err != nil {
		return nil, err
	}
	if f.routes, err = rtnetlink.Open(nil); err != nil {
		return nil, errors.Join(err, f.kernel.close())
	}
	f.beside = &beside{kernel: f.kernel, routes: f.routes}
	if cfg.RespectHost {
		f.beside.handed = f.loop.out
	}
	return f, nil
}

// AddNetwork lets a network's packets pass as its modes say. Its interface need not
// be there yet. The same network again is no change; one of the same interface with
// other settings, or one whose subnet overlaps another's, is an error of the class
// already exists.
func (f *Firewall) AddNetwork(n Network) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.wanted.addNetwork(n)
	if err != nil || c.empty() {
		return err
	}
	if err := f.apply(c, func(t *table) { t.addNetwork(n) }, nil); err != nil {
		f.wanted.removeNetwork(n.Bridge)
		return fmt.Errorf("packet rules for bridge %s: %w", n.Bridge, err)
	}
	f.beside.joinGroup(n.Bridge)
	return nil
}

// RemoveNetwork takes a network's rules away, and those of its ports; one that is
// not known is no error.
func (f *Firewall) RemoveNetwork(bridge string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, n, ports := f.wanted.removeNetwork(bridge)
	if c.empty() {
		return nil
	}
	if err := f.apply(c, nil, func(t *table) { t.removeNetwork(n) }); err != nil {
		_, _ = f.wanted.addNetwork(n)
		_, _, _ = f.wanted.addPorts(ports)
		return fmt.Errorf("removing the packet rules of bridge %s: %w", bridge, err)
	}
	return f.beside.leaveGroup(bridge)
}

// Add opens ports, all or none. A port that is open already is no change; one that
// leads elsewhere is an error of the class already exists.
func (f *Firewall) Add(ports []Mapping) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, added, err := f.wanted.addPorts(ports)
	if err != nil || c.empty() {
		return err
	}
	if err := f.apply(c, nil, nil); err != nil {
		f.wanted.removePorts(&change{}, added)
		return fmt.Errorf("publishing ports: %w", err)
	}
	f.troubles.Say(troubleBypass, f.bypassed())
	return nil
}

// Remove closes ports; one that is not open is no error. Open connections through
// them are cut off with the container.
func (f *Firewall) Remove(ports []Mapping) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &change{}
	removed := f.wanted.removePorts(c, ports)
	if c.empty() {
		return nil
	}
	if err := f.apply(c, nil, nil); err != nil {
		_, _, _ = f.wanted.addPorts(removed)
		return fmt.Errorf("withdrawing ports: %w", err)
	}
	return nil
}

// apply brings a change of the wanted state to the kernel: its elements, with chains
// made before or removed after them. Where that fails, because another program has
// changed our tables, all is built again. The caller holds the lock.
func (f *Firewall) apply(c *change, before, after func(*table)) error {
	if f.tables == nil {
		return nil
	}
	if f.built != f.wanted.shape() {
		return f.rebuild()
	}
	err := f.write(c, before, after)
	if err == nil {
		return nil
	}
	if again := f.rebuild(); again != nil {
		return again
	}
	slog.Warn("the packet rules were not as we left them and have been made again", "table", f.cfg.Table, "error", err)
	return nil
}

func (f *Firewall) write(c *change, before, after func(*table)) error {
	for _, t := range f.tables {
		if before != nil {
			before(t)
		}
		for _, step := range []struct {
			es []element
			do func(*nftables.Set, []nftables.SetElement) error
		}{{c.remove, f.kernel.conn.SetDeleteElements}, {c.add, f.kernel.conn.SetAddElements}} {
			es := slices.DeleteFunc(slices.Clone(step.es), func(e element) bool { return e.family != t.family })
			slices.SortFunc(es, element.compare)
			if err := t.elements(es, step.do); err != nil {
				return err
			}
		}
		if after != nil {
			after(t)
		}
	}
	return f.kernel.flush()
}

// Rebuild replaces our tables by what is wanted, in one transaction: no packet ever
// sees half of it. Open connections go on. A table of former releases goes too. From
// then on what other programs change is put right as soon as they have done it.
func (f *Firewall) Rebuild() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.rebuild(); err != nil {
		return err
	}
	f.besideOthers()
	if f.watcher == nil {
		var err error
		f.watcher, err = watch(f)
		return err
	}
	return nil
}

// What is logged when it begins and when it is over.
const (
	troubleOwn     = "the packet rules of networks and published ports cannot be repaired"
	troubleForeign = "packet rules of other programs keep containers from being reached"
	troubleUser    = "there is no chain for users' own packet rules"
	troubleLook    = "the host's firewall cannot be looked at"
	troubleBypass  = "published ports can be reached past the host's firewall"
)

// look repairs what needs it, and logs what cannot be.
func (f *Firewall) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tables == nil {
		return
	}
	f.troubles.Say(troubleOwn, f.repairOwn())
	f.besideOthers()
}

// besideOthers looks after what other programs' rules do to containers, and ours to them.
func (f *Firewall) besideOthers() {
	f.troubles.Say(troubleForeign, f.beside.accept(f.wanted.bridges()))
	f.troubles.Say(troubleUser, f.kernel.offerUserChain())
	var err error
	f.hostFirewall, err = f.kernel.findHostFirewall()
	f.troubles.Say(troubleLook, err)
	f.troubles.Say(troubleBypass, f.bypassed())
}

func (f *Firewall) rebuild() error {
	if f.cfg.RespectHost {
		if err := f.loop.open(f.routes); err != nil {
			return err
		}
	}
	shape := f.wanted.shape()
	tables := map[*family]*table{}
	for _, fam := range families {
		t := newTable(fam, f.kernel)
		t.remove()
		if fam == ip6 && !shape.v6 && !(f.cfg.NoRouter6 && forwards6()) {
			continue // hooks in IPv6 would cost what nobody uses
		}
		tables[fam] = t
		if err := t.build(f.wanted, f.loop); err != nil {
			return fmt.Errorf("building table %s %s: %w", fam.name, f.cfg.Table, err)
		}
	}
	if err := f.kernel.flush(); err != nil {
		return fmt.Errorf("building the nftables tables %s: %w", f.cfg.Table, explain(err, f.cfg.RespectHost))
	}
	f.tables, f.built = tables, shape
	if !f.cfg.RespectHost { // of a former daemon that did
		return f.loop.remove(f.routes)
	}
	return nil
}

// forwards6 tells whether the host passes IPv6 packets between interfaces: it may go on
// doing so after the last network that needed it.
func forwards6() bool {
	now, err := rtnetlink.ReadSysctl("net.ipv6.conf.all.forwarding")
	return err == nil && now != "0"
}

// explain says what an errno of nftables means for the host.
func explain(err error, respectHost bool) error {
	lacks := errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.ENOENT)
	switch {
	case lacks && respectHost:
		return fmt.Errorf("the kernel lacks a part of nftables (--respect-host-firewall needs CONFIG_NFT_DUP_IPV4 and CONFIG_NFT_DUP_IPV6 "+
			"beside what published ports need: CONFIG_NF_TABLES_IPV4, _IPV6, NFT_NAT, NFT_MASQ, NFT_CT, NFT_FIB_IPV4, _IPV6): %w", err)
	case lacks:
		return fmt.Errorf("the kernel lacks a part of nftables (CONFIG_NF_TABLES_IPV4, _IPV6, NFT_NAT, NFT_MASQ, NFT_CT, NFT_FIB_IPV4, _IPV6 are needed; "+
			"--iptables=false does without): %w", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("the daemon must be root of its network namespace (CAP_NET_ADMIN): %w", err)
	}
	return err
}

// Present tells whether our tables are there: other programs may flush the rule set.
func (f *Firewall) Present() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.present()
}

func (f *Firewall) present() (bool, error) {
	for fam := range f.tables {
		if there, err := f.kernel.has(fam.table, f.cfg.Table); err != nil || !there {
			return false, err
		}
	}
	return f.tables != nil, nil
}

// Teardown removes our tables and our accepts in foreign chains. What is wanted is
// kept: a later Rebuild makes it again.
func (f *Firewall) Teardown() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := errors.Join(f.beside.withdraw(), f.kernel.removeUserChain())
	for _, bridge := range f.wanted.bridges() {
		err = errors.Join(err, f.beside.leaveGroup(bridge))
	}
	f.tables = nil
	for _, fam := range families {
		newTable(fam, f.kernel).remove()
	}
	return errors.Join(err, f.kernel.flush(), f.loop.remove(f.routes))
}

// Repair puts back what other programs have removed: our tables, and our accepts in
// their chains. It changes nothing when all is in place. The watcher does the same.
func (f *Firewall) Repair() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.repairOwn(); err != nil {
		return err
	}
	var err error
	f.hostFirewall, err = f.kernel.findHostFirewall()
	return errors.Join(f.beside.accept(f.wanted.bridges()), f.kernel.offerUserChain(), err)
}

func (f *Firewall) repairOwn() error {
	damaged := f.damaged.Swap(false)
	there, err := f.present()
	open := !f.cfg.RespectHost || f.loop.there(f.routes)
	if err == nil && f.tables != nil && (damaged || !there || !open) {
		slog.Warn("another program has changed our packet rules: they are made again", "table", f.cfg.Table)
		err = f.rebuild()
	}
	if err != nil && damaged {
		f.damaged.Store(true)
	}
	return err
}

// Close ends watching and closes the sockets. The rules stay, or go with remove.
func (f *Firewall) Close(remove bool) error {
	f.mu.Lock()
	w := f.watcher
	f.watcher, f.kernel.renewed = nil, nil
	f.mu.Unlock()
	var errs []error
	if w != nil {
		errs = append(errs, w.close())
	}
	if remove {
		errs = append(errs, f.Teardown())
	}
	f.routes.Close()
	return errors.Join(append(errs, f.kernel.close())...)
}
