package firewall

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Chains that verdict maps lead to. What a network is decides which; nothing else
// distinguishes networks, so a packet passes as many rules with a thousand of them
// as with one.
const (
	chainPublish   = "publish"     // translation of published ports
	chainStrangers = "strangers"   // from a bridge to itself, --icc=false
	chainMasked    = "masked"      // from a network that is masqueraded
	chainNAT       = "into_nat"    // into a network, by its mode
	chainOpen      = "into_open"   // …
	chainRouted    = "into_routed" // …
	chainHairpin   = "hairpin"     // a container's packets back onto its own bridge
	chainHandOver  = "hand_over"   // accepted by the host's firewall, to a published port
)

// chainFrom is the one chain that each network has of its own: how its source
// addresses are translated.
func chainFrom(bridge string) string { return "from_" + bridge }

// table writes one family's table into the connection's open transaction.
type table struct {
	family *family
	kernel *kernel
	nft    *nftables.Table
	sets   map[setName]*nftables.Set
}

func newTable(f *family, k *kernel) *table {
	return &table{family: f, kernel: k, nft: &nftables.Table{Family: f.table, Name: k.table}, sets: map[setName]*nftables.Set{}}
}

// remove deletes the table; one that is not there is no error.
func (t *table) remove() {
	t.kernel.conn.AddTable(t.nft) // deleting fails where there is none
	t.kernel.conn.DelTable(t.nft)
}

// build writes sets, chains and the networks' own chains; the elements follow.
func (t *table) build(w *wanted, h *handover) error {
	t.kernel.conn.AddTable(t.nft)
	if err := t.addSets(w.cfg.RespectHost); err != nil {
		return err
	}
	t.translate(w.cfg.RespectHost, h)
	t.filter(w)
	if w.cfg.RespectHost {
		t.judge(h)
	}
	for _, bridge := range w.bridges() {
		t.addNetwork(w.networks[bridge])
	}
	return t.elements(w.all(t.family), t.kernel.conn.SetAddElements)
}

func (t *table) addSets(respectHost bool) error {
	name, addr := nftables.TypeIFName, t.family.addr
	port := []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService}
	addrPort := append([]nftables.SetDatatype{addr}, port...)
	pair := nftables.MustConcatSetType(name, name)
	to := nftables.MustConcatSetType(addr, nftables.TypeInetService)
	all := []*nftables.Set{
		{Name: string(bridges), KeyType: name, KeyByteOrder: binaryutil.NativeEndian},
		{Name: string(isolated), KeyType: name, KeyByteOrder: binaryutil.NativeEndian},
		{Name: string(trusted), KeyType: pair, Concatenation: true},
		{Name: string(openings), KeyType: nftables.MustConcatSetType(addrPort...), Concatenation: true},
		{Name: string(within), KeyType: pair, Concatenation: true, IsMap: true, DataType: nftables.TypeVerdict},
		{Name: string(leaving), KeyType: name, KeyByteOrder: binaryutil.NativeEndian, IsMap: true, DataType: nftables.TypeVerdict},
		{Name: string(entering), KeyType: name, KeyByteOrder: binaryutil.NativeEndian, IsMap: true, DataType: nftables.TypeVerdict},
		{Name: string(sources), KeyType: addr, Interval: true, IsMap: true, DataType: nftables.TypeVerdict},
		{Name: string(onAddr), KeyType: nftables.MustConcatSetType(addrPort...), Concatenation: true, IsMap: true, DataType: to},
		{Name: string(onAny), KeyType: nftables.MustConcatSetType(port...), Concatenation: true, IsMap: true, DataType: to},
	}
	if respectHost {
		all = append(all,
			&nftables.Set{Name: string(judgedOn), KeyType: nftables.MustConcatSetType(addrPort...), Concatenation: true},
			&nftables.Set{Name: string(judged), KeyType: nftables.MustConcatSetType(port...), Concatenation: true})
	}
	for _, s := range all {
		s.Table = t.nft
		if err := t.kernel.conn.AddSet(s, nil); err != nil {
			return err
		}
		t.sets[setName(s.Name)] = s
	}
	return nil
}

// portion is how many elements go into one message: its attributes hold 64 KiB.
const portion = 500

// elements hands elements, sorted by set, to do.
func (t *table) elements(es []element, do func(*nftables.Set, []nftables.SetElement) error) error {
	for len(es) > 0 {
		set, n := es[0].set, 0
		var out []nftables.SetElement
		for n < len(es) && es[n].set == set && len(out) < portion {
			out = append(out, es[n].netlink()...)
			n++
		}
		if err := do(t.sets[set], out); err != nil {
			return err
		}
		es = es[n:]
	}
	return nil
}

func (t *table) chain(name string) *nftables.Chain {
	return t.kernel.conn.AddChain(&nftables.Chain{Name: name, Table: t.nft})
}

func (t *table) base(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio nftables.ChainPriority) *nftables.Chain {
	policy := nftables.ChainPolicyAccept
	return t.kernel.conn.AddChain(&nftables.Chain{Name: name, Table: t.nft, Type: typ, Hooknum: hook, Priority: &prio, Policy: &policy})
}

func (t *table) rule(c *nftables.Chain, parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	t.kernel.conn.AddRule(&nftables.Rule{Table: t.nft, Chain: c, Exprs: all})
}

// translate writes the chains that change addresses. They see the first packet of
// a connection; conntrack does the same to the rest of it.
func (t *table) translate(respectHost bool, h *handover) {
	f := t.family
	publish := t.chain(chainPublish)
	t.rule(publish, f.target(t.sets[onAddr], true))
	t.rule(publish, f.target(t.sets[onAny], false))
	pre := t.base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest)
	if respectHost { // outsiders' packets are judged first
		t.rule(pre, iface(expr.MetaKeyIIFNAME, h.in, expr.CmpOpEq), toHost(), jump(chainPublish))
		t.rule(pre, in(t.sets[bridges], expr.MetaKeyIIFNAME), toHost(), jump(chainPublish))
	} else {
		t.rule(pre, toHost(), jump(chainPublish))
	}
	out := t.base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, *nftables.ChainPriorityNATDest)
	if f == ip6 { // ::1 cannot leave lo: gantry-net carries these connections
		t.rule(out, f.address(f.daddr, f.loopback, expr.CmpOpNeq), toHost(), jump(chainPublish))
	} else {
		t.rule(out, toHost(), jump(chainPublish))
	}

	// Hairpin: the answer must come back through the host, not straight over the bridge.
	t.rule(t.chain(chainHairpin), dnatted(), masquerade())
	post := t.base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
	t.rule(post, f.source(t.sets[sources]))
	if f == ip4 { // from the host's 127.0.0.1 to a container
		t.rule(post, f.address(f.saddr, f.loopback, expr.CmpOpEq), in(t.sets[bridges], expr.MetaKeyOIFNAME), masquerade())
	}
}

// filter writes the chains that let packets pass or not.
func (t *table) filter(w *wanted) {
	f := t.family
	if f == ip4 {
		// route_localnet on the bridges and translation before routing would let
		// neighbours reach ports published on 127.0.0.1.
		guard := t.base("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)
		t.rule(guard, f.address(f.daddr, f.loopback, expr.CmpOpEq), iface(expr.MetaKeyIIFNAME, "lo", expr.CmpOpNeq), discard())
	}
	if s := w.shape(); f == ip4 && s.isolated4 || f == ip6 && s.isolated6 {
		input := t.base("input", nftables.ChainTypeFilter, nftables.ChainHookInput, *nftables.ChainPriorityFilter)
		t.rule(input, in(t.sets[isolated], expr.MetaKeyIIFNAME), discard())
	}

	t.rule(t.chain(chainMasked), invalid(), discard()) // would leave with the container's own address
	strangers := t.chain(chainStrangers)
	t.rule(strangers, dnatted(), accept())
	t.rule(strangers, discard())
	opened := append(f.destination(true), lookup(t.sets[openings], unix.NFT_REG32_00))
	nat := t.chain(chainNAT)
	t.rule(nat, dnatted(), accept())
	if w.cfg.DirectRouting {
		t.rule(nat, opened, accept())
	} else {
		t.rule(nat, both(t.sets[trusted]), opened, accept())
	}
	t.rule(nat, discard())
	open := t.chain(chainOpen)
	t.rule(open, dnatted(), accept())
	t.rule(open, in(t.sets[bridges], expr.MetaKeyIIFNAME), discard())
	t.rule(open, accept())
	routed := t.chain(chainRouted)
	t.rule(routed, dnatted(), accept())
	t.rule(routed, f.echoRequest(), accept())
	t.rule(routed, opened, accept())
	t.rule(routed, discard())

	fwd := t.base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter)
	t.rule(fwd, established(), accept())
	if m := w.cfg.AcceptMark; m.Mask != 0 {
		t.rule(fwd, marked(m), accept())
	}
	t.rule(fwd, both(t.sets[within]))
	t.rule(fwd, in(t.sets[leaving], expr.MetaKeyIIFNAME))
	t.rule(fwd, in(t.sets[entering], expr.MetaKeyOIFNAME))
	if f == ip4 && w.cfg.NoRouter || f == ip6 && w.cfg.NoRouter6 {
		t.rule(fwd, virtual(metaIIFKind), accept())
		t.rule(fwd, virtual(metaOIFKind), accept())
		t.rule(fwd, discard())
	}
}

// addNetwork writes a network's own chain, if it has an address to translate.
func (t *table) addNetwork(n Network) {
	s := n.side(t.family)
	if len(s.subnets) == 0 || n.Internal || s.mode == Routed {
		return
	}
	c := t.chain(chainFrom(n.Bridge))
	t.rule(c, iface(expr.MetaKeyOIFNAME, n.Bridge, expr.CmpOpEq), toward(chainHairpin))
	switch {
	case n.Masquerade && s.sendAs.IsValid():
		t.rule(c, t.family.sendAs(s.sendAs))
	case n.Masquerade:
		t.rule(c, masquerade())
	}
}

// removeNetwork deletes that chain, after the elements that lead there.
func (t *table) removeNetwork(n Network) {
	s := n.side(t.family)
	if len(s.subnets) > 0 && !n.Internal && s.mode != Routed {
		t.kernel.conn.DelChain(&nftables.Chain{Name: chainFrom(n.Bridge), Table: t.nft})
	}
}
