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

// userState tells what there is of the table.
func (k *kernel) userState() (table bool, chains []*nftables.Chain, err error) {
	want := k.userTable()
	there, err := k.has(want.Family, want.Name)
	if err != nil || !there {
		return false, nil, err
	}
	all, err := k.conn.ListChainsOfTableFamily(want.Family)
	if err != nil {
		return false, nil, fmt.Errorf("listing nftables chains: %w", err)
	}
	return true, slices.DeleteFunc(all, func(c *nftables.Chain) bool { return c.Table.Name != want.Name }), nil
}

// offerUserChain makes the chain if it is not there. A kernel without the family inet
// has none.
func (k *kernel) offerUserChain() error {
	_, chains, err := k.userState()
	if err != nil || slices.ContainsFunc(chains, func(c *nftables.Chain) bool { return c.Name == userChain }) {
		return err
	}
	t, priority, policy := k.conn.AddTable(k.userTable()), userPriority, nftables.ChainPolicyAccept
	k.conn.AddChain(&nftables.Chain{
		Name: userChain, Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: &priority, Policy: &policy,
	})
	if err := k.flush(); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("making the chain for users' own rules, nftables table inet %s: %w", t.Name, err)
	}
	return nil
}

// removeUserChain takes the table away if there is nothing in it.
func (k *kernel) removeUserChain() error {
	there, chains, err := k.userState()
	if err != nil || !there {
		return err
	}
	t := k.userTable()
	sets, err := k.conn.GetSets(t)
	if err != nil || len(sets) > 0 || len(chains) > 1 {
		return err
	}
	for _, c := range chains {
		c.Table = t
		if rules, _, err := k.rules(c); err != nil || len(rules) > 0 {
			return err
		}
	}
	k.conn.DelTable(t)
	if err := k.flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}
