package names

import (
	"bytes"
	"net/netip"
)

var (
	reverse4 = []byte(".in-addr.arpa")
	reverse6 = []byte(".ip6.arpa")
)

// reverse reads the address out of a name like 2.0.18.172.in-addr.arpa or 2.0. … d.f.ip6.arpa. name is in lower case.
func reverse(name []byte) (netip.Addr, bool) {
	if rest, ok := bytes.CutSuffix(name, reverse4); ok {
		return reversed4(rest)
	}
	if rest, ok := bytes.CutSuffix(name, reverse6); ok {
		return reversed6(rest)
	}
	return netip.Addr{}, false
}

func reversed4(digits []byte) (netip.Addr, bool) {
	var b [4]byte
	at, n, seen := 3, 0, 0
	for _, c := range digits {
		switch {
		case c == '.' && seen > 0 && at > 0:
			b[at] = byte(n)
			at, n, seen = at-1, 0, 0
		case '0' <= c && c <= '9' && (seen == 0 || n > 0): // no leading zero
			if n, seen = n*10+int(c-'0'), seen+1; n > 255 {
				return netip.Addr{}, false
			}
		default:
			return netip.Addr{}, false
		}
	}
	b[0] = byte(n)
	return netip.AddrFrom4(b), at == 0 && seen > 0
}

func reversed6(nibbles []byte) (netip.Addr, bool) {
	var b [16]byte
	if len(nibbles) != 63 {
		return netip.Addr{}, false
	}
	for i, c := range nibbles {
		if i%2 == 1 {
			if c != '.' {
				return netip.Addr{}, false
			}
			continue
		}
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return netip.Addr{}, false
		}
		n := i / 2 // the n-th nibble from the address's end
		b[15-n/2] |= c << (4 * (n % 2))
	}
	return netip.AddrFrom16(b), true
}
