package firewall

import (
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// family is what the two address families differ in.
type family struct {
	name         string // as nft says it
	table        nftables.TableFamily
	proto        uint32 // NFPROTO_*
	addr         nftables.SetDatatype
	size         uint32 // of an address in octets
	saddr, daddr uint32 // offsets in the network header
	loopback     netip.Prefix
	icmp, echo   byte // protocol number, type of an echo request
}

var (
	ip4 = &family{
		name: "ip", table: nftables.TableFamilyIPv4, proto: unix.NFPROTO_IPV4, addr: nftables.TypeIPAddr, size: 4,
		saddr: 12, daddr: 16, loopback: netip.MustParsePrefix("127.0.0.0/8"), icmp: unix.IPPROTO_ICMP, echo: 8,
	}
	ip6 = &family{
		name: "ip6", table: nftables.TableFamilyIPv6, proto: unix.NFPROTO_IPV6, addr: nftables.TypeIP6Addr, size: 16,
		saddr: 8, daddr: 24, loopback: netip.MustParsePrefix("::1/128"), icmp: unix.IPPROTO_ICMPV6, echo: 128,
	}
	families = []*family{ip4, ip6}
)

func familyOf(a netip.Addr) *family {
	if a.Unmap().Is4() {
		return ip4
	}
	return ip6
}
