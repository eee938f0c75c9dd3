// Package firewall keeps the engine's packet rules in one nftables table of its
// own, over netlink, one atomic transaction per change. Published ports are
// elements of two maps, so that adding one costs the same whatever their number.
//
// The rules as nft lists them are in testdata.
package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Config is a table's fixed content.
type Config struct {
	Table  string // name of our table in the family ip
	Bridge string // interface of the network
	Subnet netip.Prefix
	// Masquerade hides containers behind the host's addresses (--ip-masq).
	Masquerade bool
	// ICC lets containers of the bridge talk to each other (--icc).
	ICC bool
	// NoRouter drops what would pass between two physical interfaces: the daemon
	// switched forwarding on, and that must not make the host a router.
	NoRouter bool
	// NSFd selects a network namespace by descriptor, for tests; 0 is the caller's.
	NSFd int
}

// Mapping is one published port.
type Mapping struct {
	Proto  string     // "tcp" or "udp"
	Host   netip.Addr // unspecified: every address of the host
	Port   uint16
	Target netip.AddrPort
}

// Firewall changes one table.
type Firewall struct {
	cfg Config

	mu   sync.Mutex
	conn *nftables.Conn
	sets *sets // nil before Rebuild
}

// New opens a lasting nftables socket. Nothing is changed before Rebuild.
func New(cfg Config) (*Firewall, error) {
	opts := []nftables.ConnOption{nftables.AsLasting()}
	if cfg.NSFd != 0 {
		opts = append(opts, nftables.WithNetNSFd(cfg.NSFd))
	}
	c, err := nftables.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("opening an nftables socket: %w", err)
	}
	return &Firewall{cfg: cfg, conn: c}, nil
}

// Rebuild replaces the whole table by one with these ports, in one transaction:
// no packet ever sees half of it. Open connections go on.
func (f *Firewall) Rebuild(ports []Mapping) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: f.cfg.Table})
	f.conn.DelTable(t) // deleting fails where there is none: hence the line above
	t = f.conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: f.cfg.Table})
	s, err := f.addSets(t)
	if err == nil {
		err = f.elements(s, ports, f.conn.SetAddElements)
	}
	if err != nil {
		return fmt.Errorf("building table ip %s: %w", f.cfg.Table, err)
	}
	f.addChains(t, s)
	if err := f.conn.Flush(); err != nil {
		return fmt.Errorf("building table ip %s: %w", f.cfg.Table, err)
	}
	f.sets = s
	return nil
}

// Add opens ports.
func (f *Firewall) Add(ports []Mapping) error {
	return f.change("publishing", ports, f.conn.SetAddElements)
}

// Remove closes ports. Open connections through them are cut off with the container.
func (f *Firewall) Remove(ports []Mapping) error {
	err := f.change("withdrawing", ports, f.conn.SetDeleteElements)
	if errors.Is(err, unix.ENOENT) {
		return nil // somebody flushed our table
	}
	return err
}

func (f *Firewall) change(doing string, ports []Mapping, do func(*nftables.Set, []nftables.SetElement) error) error {
	if len(ports) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sets == nil {
		return fmt.Errorf("%s ports: table ip %s has not been built yet", doing, f.cfg.Table)
	}
	if err := f.elements(f.sets, ports, do); err != nil {
		return fmt.Errorf("%s ports: %w", doing, err)
	}
	if err := f.conn.Flush(); err != nil {
		return fmt.Errorf("%s ports in table ip %s: %w", doing, f.cfg.Table, err)
	}
	return nil
}

// Present tells whether our table is there: other programs may flush the rule set.
func (f *Firewall) Present() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	tables, err := f.conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false, err
	}
	for _, t := range tables {
		if t.Name == f.cfg.Table {
			return true, nil
		}
	}
	return false, nil
}

// Teardown removes the table and our accepts in foreign chains.
func (f *Firewall) Teardown() error {
	err := f.withdrawAccepts()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sets = nil
	t := f.conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: f.cfg.Table})
	f.conn.DelTable(t)
	return errors.Join(err, f.conn.Flush())
}

// Close closes the socket; the rules stay.
func (f *Firewall) Close() error { return f.conn.CloseLasting() }
