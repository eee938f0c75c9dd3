package firewall

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// The hook chain for users' own rules: a table of its own, family inet, with a chain
// that runs before ours. It is made where it is missing and never changed; what users
// put there survives our rebuilds. Only while it is empty does it go with us.

// userChain is its name in the table userTable.
const userChain = "forward"

// userPriority lets it run before our forward chain and others' (filter is 0).
const userPriority = nftables.ChainPriority(-10)

func (f *Firewall) userTable() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: f.cfg.Table + "_user"}
}

// userState tells what there is of the table.
func (f *Firewall) userState() (table bool, chains []*nftables.Chain, err error) {
	want := f.userTable()
	tables, err := f.conn.ListTablesOfFamily(want.Family)
	if err != nil {
		return false, nil, fmt.Errorf("listing nftables tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == want.Name }) {
		return false, nil, nil
	}
	all, err := f.conn.ListChainsOfTableFamily(want.Family)
	if err != nil {
		return false, nil, fmt.Errorf("listing nftables chains: %w", err)
	}
	return true, slices.DeleteFunc(all, func(c *nftables.Chain) bool { return c.Table.Name != want.Name }), nil
}

// offerUserChain makes the chain if it is not there. A kernel without the family inet
// has none.
func (f *Firewall) offerUserChain() error {
	_, chains, err := f.userState()
	if err != nil || slices.ContainsFunc(chains, func(c *nftables.Chain) bool { return c.Name == userChain }) {
		return err
	}
	t, priority, policy := f.conn.AddTable(f.userTable()), userPriority, nftables.ChainPolicyAccept
	f.conn.AddChain(&nftables.Chain{
		Name: userChain, Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: &priority, Policy: &policy,
	})
	if err := f.flush(); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("making the chain for users' own rules, nftables table inet %s: %w", t.Name, err)
	}
	return nil
}

// removeUserChain takes the table away if there is nothing in it.
func (f *Firewall) removeUserChain() error {
	there, chains, err := f.userState()
	if err != nil || !there {
		return err
	}
	t := f.userTable()
	sets, err := f.conn.GetSets(t)
	if err != nil || len(sets) > 0 || len(chains) > 1 {
		return err
	}
	for _, c := range chains {
		c.Table = t
		if rules, _, err := f.rules(c); err != nil || len(rules) > 0 {
			return err
		}
	}
	f.conn.DelTable(t)
	if err := f.flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}
