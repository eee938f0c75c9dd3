package firewall

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// kernel is the way to nftables. One transaction is open at a time: whoever uses it
// holds the firewall's lock.
type kernel struct {
	table string // name of our tables
	conn  *nftables.Conn
	lists *netlink.Conn // for what the library cannot list
	port  atomic.Uint32 // of conn: notifications of our own changes come from there
	// renewed is told the port of a socket that took the place of another; nil is nobody.
	renewed func(port uint32) error
}

// buffers bound a transaction: what is sent, some 100 octets a port, and the kernel's
// answers, some 2 KiB a rule, which all come before the first is read. They are limits;
// nothing is set aside.
const buffers = 64 << 20

func openKernel(table string) (*kernel, error) {
	k := &kernel{table: table}
	if err := k.dial(); err != nil {
		return nil, err
	}
	var err error
	if k.lists, err = netlink.Dial(unix.NETLINK_NETFILTER, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("opening an nftables socket: %w", err), k.conn.CloseLasting())
	}
	return k, nil
}

func (k *kernel) close() error { return errors.Join(k.lists.Close(), k.conn.CloseLasting()) }

func (k *kernel) dial() (err error) {
	k.conn, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(buffers), c.SetReadBuffer(buffers), k.learnPort(c))
	}))
	if err != nil {
		return fmt.Errorf("opening an nftables socket (the kernel needs CONFIG_NF_TABLES): %w", err)
	}
	return nil
}

// flush sends the open transaction. After an error the library may have left answers in the
// socket that it would take for the next transaction's: it is given up for a new one.
func (k *kernel) flush() error {
	err := k.conn.Flush()
	if err == nil {
		return nil
	}
	old := k.conn
	if again := k.dial(); again != nil {
		k.conn = old
		return errors.Join(err, again)
	}
	if k.renewed != nil {
		err = errors.Join(err, k.renewed(k.port.Load()))
	}
	return errors.Join(err, old.CloseLasting())
}

// learnPort notes the socket's netlink port.
func (k *kernel) learnPort(c *netlink.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var name unix.Sockaddr
	var nameErr error
	if err := raw.Control(func(fd uintptr) { name, nameErr = unix.Getsockname(int(fd)) }); err != nil || nameErr != nil {
		return errors.Join(err, nameErr)
	}
	if nl, ok := name.(*unix.SockaddrNetlink); ok {
		k.port.Store(nl.Pid)
	}
	return nil
}

// has tells whether there is a table of that name.
func (k *kernel) has(family nftables.TableFamily, name string) (bool, error) {
	all, err := k.conn.ListTablesOfFamily(family)
	if err != nil {
		return false, fmt.Errorf("listing nftables tables: %w", err)
	}
	return slices.ContainsFunc(all, func(t *nftables.Table) bool { return t.Name == name }), nil
}

// own tells whether a table is ours.
func (k *kernel) own(table string) bool { return table == k.table }

func (k *kernel) userTable() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: k.table + "_user"}
}

// foreign lists other programs' filter chains of a hook.
func (k *kernel) foreign(hook *nftables.ChainHook) ([]foreignChain, error) {
	var out []foreignChain
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6, nftables.TableFamilyINet} {
		chains, err := k.conn.ListChainsOfTableFamily(family)
		if err != nil {
			return nil, fmt.Errorf("listing nftables chains: %w", err)
		}
		engine := map[string]int{} // another engine's tables, known by two of our chains' names: it looks after itself
		for _, c := range chains {
			if c.Name == chainPublish || c.Name == chainNAT {
				engine[c.Table.Name]++
			}
		}
		for _, c := range chains {
			if k.own(c.Table.Name) || c.Table.Name == k.userTable().Name || engine[c.Table.Name] == 2 || c.Type != nftables.ChainTypeFilter || c.Hooknum == nil || *c.Hooknum != *hook {
				continue
			}
			c.Table.Family = family
			rules, gone, err := k.rules(c)
			if err != nil {
				return nil, err
			}
			if gone {
				continue
			}
			out = append(out, foreignChain{c, rules})
		}
	}
	return out, nil
}

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	}
	return "inet"
}
