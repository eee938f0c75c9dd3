package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// A verdict of accept in our tables does not overrule a drop in another's. Where a
// foreign forward chain drops what nobody accepted (as Docker's and ufw's do by their
// policy, firewalld's by its last rule), two accepts are put where that would happen,
// one for each direction: our own chain has already dropped what must not pass.
//
// They know our bridges by their device group, so two are enough for any number of
// networks. A bridge that the user has put into another group gets two of its own.

// beside looks after foreign chains.
type beside struct {
	*kernel
	routes *netlink.Conn
	handed string // interface of what the host has accepted; empty if it is not asked
}

// bridgeGroup is the device group of our bridges: "gnt" in ASCII.
const bridgeGroup = 0x676e74

// joinGroup puts a bridge into our group, if it is in none. Where that does not work
// it has rules by name.
func (b *beside) joinGroup(bridge string) {
	if now, err := b.routes.Group(bridge); err == nil && now == 0 {
		_ = b.routes.SetGroup(bridge, bridgeGroup)
	}
}

// leaveGroup gives a bridge that stays behind its former group back.
func (b *beside) leaveGroup(bridge string) error {
	now, err := b.routes.Group(bridge)
	if err == nil && now == bridgeGroup {
		err = b.routes.SetGroup(bridge, 0)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// elsewhere are our bridges that the rule for our group does not cover.
func (b *beside) elsewhere(bridges []string) ([]string, error) {
	groups, err := b.routes.Groups()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range bridges {
		group, there := groups[name]
		if there && group == 0 {
			if err := b.routes.SetGroup(name, bridgeGroup); err == nil || errors.Is(err, os.ErrNotExist) {
				continue
			}
		}
		if there && group != bridgeGroup {
			out = append(out, name)
		}
	}
	return out, nil
}

// accept puts our accepts into foreign chains, and takes away those that are not
// needed any more. It changes nothing when all is in place.
func (b *beside) accept(bridges []string) error {
	chains, err := b.foreign(nftables.ChainHookForward)
	if err != nil {
		return err
	}
	if err := b.handedOver(); err != nil {
		return err
	}
	var names []string
	if len(bridges) > 0 && len(chains) > 0 {
		if names, err = b.elsewhere(bridges); err != nil {
			return err
		}
	}
	var errs []error
	for _, c := range chains {
		var want []accepts
		if end, ok := c.closes(); ok && len(bridges) > 0 {
			want = b.acceptsIn(c, names)
			for i := range want {
				want[i].before = end
			}
		}
		if err := b.settle(c, want); err != nil {
			errs = append(errs, fmt.Errorf("accepting containers' traffic in chain %s of nftables table %s %s, which drops it: %w%s", c.Name, familyName(c.Table.Family), c.Table.Name, err, advice(c, bridges, err)))
		}
	}
	return errors.Join(append(errs, legacy(bridges))...)
}

// handedOver lets copies of accepted packets through output chains that drop. The
// kernel sends them as its own, but what they are has been judged on the way in.
func (b *beside) handedOver() error {
	chains, err := b.foreign(nftables.ChainHookOutput)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range chains {
		var want []accepts
		if before, ok := c.closes(); ok && b.handed != "" {
			want = []accepts{{b.table + " handed over", exactly(expr.MetaKeyOIFNAME, b.handed), before}}
		}
		if err := b.settle(c, want); err != nil {
			errs = append(errs, fmt.Errorf("accepting what the host's firewall has accepted in chain %s of nftables table %s %s, which drops it: %w", c.Name, familyName(c.Table.Family), c.Table.Name, err))
		}
	}
	return errors.Join(errs...)
}

// advice says what helps where a table belongs to a program that lets nobody else change it.
func advice(c foreignChain, bridges []string, err error) string {
	switch {
	case !errors.Is(err, unix.EPERM) || len(bridges) == 0:
		return ""
	case c.owner() == "firewalld":
		return fmt.Sprintf(" (firewalld owns its table: give 'firewall-cmd --permanent --zone=trusted --add-interface=%s; firewall-cmd --reload', "+
			"or set NftablesTableOwner=no in /etc/firewalld/firewalld.conf)", bridges[0])
	}
	return fmt.Sprintf(" (its owner lets nobody else change the table: accept interface %s there)", bridges[0])
}

// accepts is one rule of ours in a foreign chain.
type accepts struct {
	mark   string // its comment, by which it is known again
	match  []expr.Any
	before uint64 // handle of the rule it goes in front of; 0 is the chain's end
}

func (b *beside) acceptsIn(c foreignChain, names []string) (out []accepts) {
	add := func(what string, match ...expr.Any) {
		out = append(out, accepts{mark: b.table + " " + what, match: match})
	}
	if c.iptables() { // in the form of iptables-nft, so that its listings keep working
		add("from containers", deviceGroup(true))
		add("to containers", deviceGroup(false))
	} else {
		group := binaryutil.NativeEndian.PutUint32(bridgeGroup)
		add("from containers", &expr.Meta{Key: expr.MetaKeyIIFGROUP, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: group})
		add("to containers", &expr.Meta{Key: expr.MetaKeyOIFGROUP, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: group})
	}
	for _, name := range names {
		add("from "+name, exactly(expr.MetaKeyIIFNAME, name)...)
		add("to "+name, exactly(expr.MetaKeyOIFNAME, name)...)
	}
	return out
}

// exactly compares an interface's name as iptables-nft writes it.
func exactly(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(name), 0)}}
}

// deviceGroup is iptables' -m devgroup (struct xt_devgroup_info: flags, then group and
// mask of the source and of the destination interface).
func deviceGroup(source bool) expr.Any {
	info := make(xt.Unknown, 24) // 20, aligned
	n := binary.NativeEndian
	flag, at := uint32(1), 4 // XT_DEVGROUP_MATCH_SRC
	if !source {
		flag, at = 4, 12 // XT_DEVGROUP_MATCH_DST
	}
	n.PutUint32(info, flag)
	n.PutUint32(info[at:], bridgeGroup)
	n.PutUint32(info[at+4:], ^uint32(0))
	return &expr.Match{Name: "devgroup", Rev: 0, Info: &info}
}

// settle makes our rules in a foreign chain those wanted, in one transaction. A chain
// that vanishes meanwhile is no error.
func (b *beside) settle(c foreignChain, want []accepts) error {
	missing := map[string]bool{}
	for _, w := range want {
		missing[w.mark] = true
	}
	steps := 0
	for _, r := range c.rules {
		if !strings.HasPrefix(r.comment, b.table+" ") {
			continue // not ours
		}
		if missing[r.comment] {
			delete(missing, r.comment)
			continue
		}
		if err := b.conn.DelRule(&nftables.Rule{Table: c.Table, Chain: c.Chain, Handle: r.handle}); err != nil {
			return err
		}
		steps++
	}
	for _, w := range want {
		if !missing[w.mark] {
			continue
		}
		steps++
		r := &nftables.Rule{
			Table: c.Table, Chain: c.Chain, UserData: userdata.AppendString(nil, userdata.TypeComment, w.mark),
			Exprs: append(slices.Clone(w.match), &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}), Position: w.before,
		}
		if w.before != 0 {
			b.conn.InsertRule(r)
		} else {
			b.conn.AddRule(r)
		}
	}
	if steps == 0 {
		return nil
	}
	if err := b.flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// withdraw takes all our rules out of foreign chains.
func (b *beside) withdraw() error {
	var errs []error
	for _, hook := range []*nftables.ChainHook{nftables.ChainHookForward, nftables.ChainHookOutput} {
		chains, err := b.foreign(hook)
		if err != nil {
			return err
		}
		for _, c := range chains {
			if err := b.settle(c, nil); err != nil {
				errs = append(errs, fmt.Errorf("withdrawing accepts from chain %s of nftables table %s: %w", c.Name, c.Table.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// foreignChain is another program's base chain of type filter.
type foreignChain struct {
	*nftables.Chain
	rules []foreignRule
}

// iptables tells whether iptables-nft keeps the chain.
func (c foreignChain) iptables() bool {
	return c.Table.Family != nftables.TableFamilyINet && c.Table.Name == "filter" && c.Name == strings.ToUpper(c.Name)
}

// closes tells whether the chain drops or rejects what none of its rules accepted: by
// its policy, or by an unconditional last rule. before is where what is accepted must
// stand, a rule's handle: 0, at the end, with a policy; else in front of the first rule
// that leaves for other chains, as these may reject too (firewalld's zones do).
func (c foreignChain) closes() (before uint64, ok bool) {
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		return 0, true
	}
	if len(c.rules) == 0 || !c.rules[len(c.rules)-1].refuses() {
		return 0, false
	}
	for _, r := range c.rules {
		if r.leaves() || r.refuses() {
			return r.handle, true
		}
	}
	return 0, false
}

// legacy tells what to do where the old iptables drops: it cannot be changed over nftables.
func legacy(bridges []string) error {
	for _, bridge := range bridges {
		drops, err := netlink.LegacyForwardDrops(bridge)
		if err != nil {
			return err
		}
		if drops {
			return fmt.Errorf("chain FORWARD of the old iptables has policy DROP: accept containers' traffic there with "+
				"'iptables-legacy -I FORWARD -i %[1]s -j ACCEPT; iptables-legacy -I FORWARD -o %[1]s -j ACCEPT'", bridge)
		}
	}
	return nil
}
