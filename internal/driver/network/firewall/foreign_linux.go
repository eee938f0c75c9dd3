package firewall

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// A verdict of accept in our table does not overrule a drop in another's. Where a
// foreign FORWARD chain drops what nobody accepted (as Docker's does), two accepts
// are appended to it, one for each direction of our bridge: our own chain has
// already dropped what must not pass. They have the form that iptables-nft makes,
// so that its listings keep working.

// Repair puts back what other programs have flushed: accepts in foreign chains
// with policy drop. Called now and then; changes nothing when all is in place. The
// old iptables cannot be changed from here: the error says what to do there.
func (f *Firewall) Repair() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	chains, err := f.foreignForward()
	if err != nil {
		return err
	}
	for _, c := range chains {
		if c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
			continue
		}
		present, err := f.ours(c)
		if err != nil {
			return err
		}
		if len(present) == 2 {
			continue
		}
		for _, r := range present {
			if err := f.conn.DelRule(r); err != nil {
				return err
			}
		}
		for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			name := append([]byte(f.cfg.Bridge), 0)
			f.conn.AddRule(&nftables.Rule{Table: c.Table, Chain: c, UserData: f.mark(), Exprs: []expr.Any{
				&expr.Meta{Key: key, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
				&expr.Counter{},
				&expr.Verdict{Kind: expr.VerdictAccept},
			}})
		}
		if err := f.conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("accepting the traffic of %s in chain %s of table %s: %w", f.cfg.Bridge, c.Name, c.Table.Name, err)
		}
	}
	if f.cfg.NSFd != 0 {
		return nil
	}
	drops, err := netlink.LegacyForwardDrops(f.cfg.Bridge)
	if drops {
		return fmt.Errorf("chain FORWARD of the old iptables has policy DROP: accept containers' traffic there with "+
			"'iptables-legacy -I FORWARD -i %[1]s -j ACCEPT; iptables-legacy -I FORWARD -o %[1]s -j ACCEPT'", f.cfg.Bridge)
	}
	return err
}

func (f *Firewall) withdrawAccepts() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	chains, err := f.foreignForward()
	if err != nil {
		return err
	}
	for _, c := range chains {
		present, err := f.ours(c)
		if err != nil {
			return err
		}
		for _, r := range present {
			if err := f.conn.DelRule(r); err != nil {
				return err
			}
		}
	}
	if err := f.conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("withdrawing accepts for %s: %w", f.cfg.Bridge, err)
	}
	return nil
}

func (f *Firewall) foreignForward() ([]*nftables.Chain, error) {
	var out []*nftables.Chain
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyINet} {
		chains, err := f.conn.ListChainsOfTableFamily(family)
		if err != nil {
			return nil, fmt.Errorf("listing nftables chains: %w", err)
		}
		for _, c := range chains {
			if c.Table.Name != f.cfg.Table && c.Type == nftables.ChainTypeFilter && c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward {
				c.Table.Family = family
				out = append(out, c)
			}
		}
	}
	return out, nil
}

func (f *Firewall) ours(c *nftables.Chain) ([]*nftables.Rule, error) {
	rules, err := f.conn.GetRules(c.Table, c)
	if err != nil {
		return nil, fmt.Errorf("listing chain %s of table %s: %w", c.Name, c.Table.Name, err)
	}
	var out []*nftables.Rule
	for _, r := range rules {
		if bytes.Equal(r.UserData, f.mark()) {
			r.Table, r.Chain = c.Table, c
			out = append(out, r)
		}
	}
	return out, nil
}

// mark is the comment by which we know our rules again.
func (f *Firewall) mark() []byte {
	return userdata.AppendString(nil, userdata.TypeComment, f.cfg.Table+" "+f.cfg.Bridge)
}
