package ipam

import (
	"crypto/sha256"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
)

// Supply is where subnets come from that nobody chose: Base in pieces of the prefix length Size.
type Supply struct {
	Base netip.Prefix
	Size int
}

// Supplies are the default address pools of an engine: those that its user names or, of each family that these
// leave out, the usual ones. seed makes the engine's own part of IPv6's unique local addresses.
func Supplies(named []Supply, seed string) []Supply {
	out := append([]Supply(nil), named...)
	var has4, has6 bool
	for _, s := range named {
		has4, has6 = has4 || s.Base.Addr().Is4(), has6 || s.Base.Addr().Is6()
	}
	if !has4 {
		for i := byte(17); i <= 31; i++ {
			base := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, i}), 16)
			out = append(out, Supply{base, 16})
		}
		out = append(out, Supply{netip.MustParsePrefix("192.168.0.0/16"), 20})
	}
	if !has6 {
		sum := sha256.Sum256([]byte("ipv6\x00" + seed))
		b := [16]byte{0xfd}
		copy(b[1:6], sum[:])
		out = append(out, Supply{netip.PrefixFrom(netip.AddrFrom16(b), 48), 64})
	}
	return out
}

// Pick finds the first subnet of a family that overlaps nothing in use.
func Pick(supplies []Supply, ipv6 bool, used []netip.Prefix) (netip.Prefix, error) {
	for _, s := range supplies {
		if s.Base.Addr().Is6() != ipv6 {
			continue
		}
		at := netip.PrefixFrom(s.Base.Masked().Addr(), s.Size)
		for s.Base.Contains(at.Addr()) {
			in := overlapping(at, used)
			if !in.IsValid() {
				return at, nil
			}
			if in.Bits() < at.Bits() { // a larger one: go on behind it
				at = netip.PrefixFrom(last(in).Next(), s.Size)
			} else {
				at = netip.PrefixFrom(last(at).Next(), s.Size)
			}
			if !at.IsValid() {
				break
			}
			at = at.Masked()
		}
	}
	name := "IPv4"
	if ipv6 {
		name = "IPv6"
	}
	return netip.Prefix{}, fmt.Errorf("all predefined address pools have been fully subnetted: no %s subnet is left that neither a network nor a route of the host uses; "+
		"name one with --subnet, remove unused networks, or start the engine with further --default-address-pool: %w", name, errdefs.ErrInvalidArgument)
}

// overlapping gives one of used that overlaps p, the largest, or the zero Prefix.
func overlapping(p netip.Prefix, used []netip.Prefix) (found netip.Prefix) {
	for _, u := range used {
		if u.Overlaps(p) && (!found.IsValid() || u.Bits() < found.Bits()) {
			found = u
		}
	}
	return found
}
