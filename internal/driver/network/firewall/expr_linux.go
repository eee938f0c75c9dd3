package firewall

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What rules are made of, each named after what nft calls it. Registers: 1 is a
// whole one (16 octets), NFT_REG32_00 and the following are quarters.

// Keys that the library does not name: the kind of a virtual interface. For a
// physical one the rule does not match at all.
const (
	metaIIFKind expr.MetaKey = 26
	metaOIFKind expr.MetaKey = 27
)

func iface(key expr.MetaKey, name string, op expr.CmpOp) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: []byte(ifname(name))}}
}

func virtual(key expr.MetaKey) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, unix.IFNAMSIZ)}}
}

// address compares an address of the network header with a subnet.
func (f *family) address(offset uint32, p netip.Prefix, op expr.CmpOp) []expr.Any {
	mask := make([]byte, f.size)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	out := []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size}}
	if p.Bits() < int(f.size)*8 {
		out = append(out, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: f.size, Mask: mask, Xor: make([]byte, f.size)})
	}
	return append(out, &expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()})
}

// toHost is a packet to one of the host's own addresses.
func toHost() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

func conntrack(key expr.CtKey, mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func established() []expr.Any {
	return conntrack(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

func invalid() []expr.Any { return conntrack(expr.CtKeySTATE, expr.CtStateBitINVALID) }

func dnatted() []expr.Any {
	const dstNAT = 1 << 5 // IPS_DST_NAT
	return conntrack(expr.CtKeySTATUS, dstNAT)
}

func mark(is uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(is)},
	}
}

// marked compares the bits of a mark that count.
func marked(m Mark) []expr.Any {
	n := binaryutil.NativeEndian
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: n.PutUint32(m.Mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: n.PutUint32(m.Value & m.Mask)},
	}
}

func setMark(to uint32) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(to)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

// echoRequest is what ping sends.
func (f *family) echoRequest() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.icmp}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.echo}},
	}
}

func accept() []expr.Any  { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
func discard() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func jump(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}
func toward(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}
func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

// sendAs makes packets leave with an address of the host's.
func (f *family) sendAs(a netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: a.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: f.proto, RegAddrMin: 1},
	}
}

// in looks one interface up in a set, or in a verdict map, which then decides.
func in(set *nftables.Set, key expr.MetaKey) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, lookup(set, 1)}
}

// both looks the pair of interfaces up.
func both(set *nftables.Set) []expr.Any {
	const second = unix.NFT_REG32_04
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: unix.NFT_REG32_00},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: second},
		lookup(set, unix.NFT_REG32_00),
	}
}

// source looks the source address up.
func (f *family) source(set *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: f.size},
		lookup(set, 1),
	}
}

func lookup(set *nftables.Set, register uint32) expr.Any {
	l := &expr.Lookup{SourceRegister: register, SetID: set.ID, SetName: set.Name}
	l.IsDestRegSet = set.IsMap // register 0 is the verdict's
	return l
}

// destination loads [address and] protocol and port of the destination into the
// registers from NFT_REG32_00 on.
func (f *family) destination(withAddr bool) (out []expr.Any) {
	reg := uint32(unix.NFT_REG32_00)
	if withAddr {
		out = append(out, &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: f.daddr, Len: f.size})
		reg += f.size / 4
	}
	return append(out,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Payload{DestRegister: reg + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	)
}

// target translates to the container's address and port that a map tells.
func (f *family) target(set *nftables.Set, withAddr bool) []expr.Any {
	return append(f.destination(withAddr),
		&expr.Lookup{SourceRegister: unix.NFT_REG32_00, DestRegister: unix.NFT_REG32_00, IsDestRegSet: true, SetID: set.ID, SetName: set.Name},
		&expr.NAT{
			Type: expr.NATTypeDestNAT, Family: f.proto,
			RegAddrMin: unix.NFT_REG32_00, RegProtoMin: unix.NFT_REG32_00 + f.size/4,
		},
	)
}
