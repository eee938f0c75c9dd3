package firewall

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// sets are the two maps of published ports: those of one host address, which go
// first, and those of all.
type sets struct{ addr, any *nftables.Set }

func (f *Firewall) addSets(t *nftables.Table) (*sets, error) {
	portKey := nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	addrKey := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	to := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	s := &sets{
		addr: &nftables.Set{Table: t, Name: "published_on", IsMap: true, Concatenation: true, KeyType: addrKey, DataType: to},
		any:  &nftables.Set{Table: t, Name: "published", IsMap: true, Concatenation: true, KeyType: portKey, DataType: to},
	}
	for _, set := range []*nftables.Set{s.addr, s.any} {
		if err := f.conn.AddSet(set, nil); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// elements hands the ports to do, in portions that fit one netlink attribute.
func (f *Firewall) elements(s *sets, ports []Mapping, do func(*nftables.Set, []nftables.SetElement) error) error {
	var addr, all []nftables.SetElement
	for _, p := range ports {
		key, err := portKey(p.Proto, p.Port)
		if err != nil {
			return err
		}
		e := nftables.SetElement{Key: key, Val: append(p.Target.Addr().AsSlice(), port4(p.Target.Port())...)}
		if !p.Host.IsValid() || p.Host.IsUnspecified() {
			all = append(all, e)
			continue
		}
		if !p.Host.Unmap().Is4() {
			return fmt.Errorf("host address %s is not IPv4", p.Host)
		}
		e.Key = append(p.Host.Unmap().AsSlice(), key...)
		addr = append(addr, e)
	}
	const portion = 500
	for set, es := range map[*nftables.Set][]nftables.SetElement{s.addr: addr, s.any: all} {
		for len(es) > 0 {
			n := min(portion, len(es))
			if err := do(set, es[:n]); err != nil {
				return err
			}
			es = es[n:]
		}
	}
	return nil
}

func portKey(proto string, port uint16) ([]byte, error) {
	n := byte(unix.IPPROTO_TCP)
	switch proto {
	case "tcp":
	case "udp":
		n = unix.IPPROTO_UDP
	default:
		return nil, fmt.Errorf("protocol %q cannot be published", proto)
	}
	return append([]byte{n, 0, 0, 0}, port4(port)...), nil
}

func port4(p uint16) []byte {
	b := make([]byte, 4)
	binary.BigEndian.PutUint16(b, p)
	return b
}

// addChains writes the chains. Registers: 1 is a whole one, 8 to 11 its quarters
// counted through (NFT_REG32_00…).
func (f *Firewall) addChains(t *nftables.Table, s *sets) {
	base := func(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio nftables.ChainPriority) *nftables.Chain {
		accept := nftables.ChainPolicyAccept
		return f.conn.AddChain(&nftables.Chain{Name: name, Table: t, Type: typ, Hooknum: hook, Priority: &prio, Policy: &accept})
	}
	rule := func(c *nftables.Chain, parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		f.conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: all})
	}
	br := f.cfg.Bridge

	// route_localnet on the bridge and DNAT before routing would let neighbours
	// reach ports published on 127.0.0.1.
	guard := base("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)
	rule(guard, ifname(expr.MetaKeyIIFNAME, "lo", expr.CmpOpNeq), address(daddr, netip.MustParsePrefix("127.0.0.0/8"), expr.CmpOpEq), verdict(expr.VerdictDrop))

	publish := f.conn.AddChain(&nftables.Chain{Name: "publish", Table: t})
	rule(publish, lookup(s.addr, true))
	rule(publish, lookup(s.any, false))
	toPublish := []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: "publish"}}
	rule(base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest), localDestination(), toPublish)
	rule(base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, *nftables.ChainPriorityNATDest), localDestination(), toPublish)

	post := base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
	masq := []expr.Any{&expr.Masq{}}
	if f.cfg.Masquerade {
		rule(post, address(saddr, f.cfg.Subnet, expr.CmpOpEq), ifname(expr.MetaKeyOIFNAME, br, expr.CmpOpNeq), masq)
	}
	// Hairpin: the answer must come back through the host, not straight over the bridge.
	rule(post, ifname(expr.MetaKeyOIFNAME, br, expr.CmpOpEq), address(saddr, f.cfg.Subnet, expr.CmpOpEq), dnatted(), masq)
	rule(post, ifname(expr.MetaKeyOIFNAME, br, expr.CmpOpEq), address(saddr, netip.MustParsePrefix("127.0.0.0/8"), expr.CmpOpEq), masq)

	fwd := base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter)
	into := ifname(expr.MetaKeyOIFNAME, br, expr.CmpOpEq)
	rule(fwd, into, established(), verdict(expr.VerdictAccept))
	rule(fwd, into, dnatted(), verdict(expr.VerdictAccept))
	if f.cfg.ICC {
		rule(fwd, into, ifname(expr.MetaKeyIIFNAME, br, expr.CmpOpEq), verdict(expr.VerdictAccept))
	}
	rule(fwd, into, verdict(expr.VerdictDrop))
	if f.cfg.NoRouter {
		rule(fwd, virtual(metaIIFKind), verdict(expr.VerdictAccept))
		rule(fwd, virtual(metaOIFKind), verdict(expr.VerdictAccept))
		rule(fwd, established(), verdict(expr.VerdictAccept))
		rule(fwd, verdict(expr.VerdictDrop))
	}
}

// Keys that the library does not name: the kind of a virtual interface. For a
// physical one the rule does not match at all.
const (
	metaIIFKind expr.MetaKey = 26
	metaOIFKind expr.MetaKey = 27
)

const (
	saddr = 12 // offsets in the IPv4 header
	daddr = 16
)

func ifname(key expr.MetaKey, name string, op expr.CmpOp) []expr.Any {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: b}}
}

func virtual(key expr.MetaKey) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, unix.IFNAMSIZ)}}
}

func address(offset uint32, p netip.Prefix, op expr.CmpOp) []expr.Any {
	mask := binaryutil.BigEndian.PutUint32(^uint32(0) << (32 - p.Bits()))
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

func localDestination() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

func bits(key expr.CtKey, mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func established() []expr.Any {
	return bits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

func dnatted() []expr.Any {
	const dstNAT = 1 << 5 // IPS_DST_NAT
	return bits(expr.CtKeySTATUS, dstNAT)
}

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }

// lookup maps [destination address and] protocol and port to a container's address and port.
func lookup(set *nftables.Set, withAddr bool) []expr.Any {
	var out []expr.Any
	reg := uint32(unix.NFT_REG32_00)
	first := reg
	if withAddr {
		out = append(out, &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: daddr, Len: 4})
		reg++
	}
	return append(out,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Payload{DestRegister: reg + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: first, DestRegister: unix.NFT_REG32_00, IsDestRegSet: true, SetID: set.ID, SetName: set.Name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: unix.NFT_REG32_00, RegProtoMin: unix.NFT_REG32_01},
	)
}
