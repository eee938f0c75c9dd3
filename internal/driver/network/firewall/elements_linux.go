package firewall

import (
	"cmp"
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// setName is one of a table's sets and maps.
type setName string

const (
	bridges  setName = "bridges"      // our interfaces
	within   setName = "within"       // from and to the same bridge: what becomes of it
	leaving  setName = "leaving"      // from a bridge
	entering setName = "entering"     // to a bridge
	sources  setName = "sources"      // containers' subnets, for translation on the way out
	isolated setName = "isolated"     // bridges that must not reach the host either
	trusted  setName = "trusted"      // interface of the host and bridge
	openings setName = "openings"     // containers' own addresses and ports that outsiders may use
	onAddr   setName = "published_on" // ports of one address of the host
	onAny    setName = "published"    // ports of all its addresses
	judgedOn setName = "judged_on"    // published_on and published as sets, with
	judged   setName = "judged"       // --respect-host-firewall: a map cannot be asked whether it has a key
)

// protocols are those whose ports can be published, by the names of the API.
var protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// element is one element of a set, as the kernel wants its octets. It is a plain
// value, to be counted and compared.
type element struct {
	family *family
	set    setName
	key    string
	end    string  // first key after an interval; empty if it ends with the address space
	val    string  // of a map
	to     verdict // of a verdict map
}

// verdict is a verdict map's value; the zero value is none.
type verdict struct {
	word  string // accept, drop, jump or goto
	chain string // of the latter two
}

var kinds = map[string]expr.VerdictKind{
	"accept": expr.VerdictAccept, "drop": expr.VerdictDrop, "jump": expr.VerdictJump, "goto": expr.VerdictGoto,
}

func (e element) compare(o element) int {
	return cmp.Or(cmp.Compare(e.set, o.set), cmp.Compare(e.key, o.key), cmp.Compare(e.val, o.val))
}

// netlink is the element in the library's form; an interval has two.
func (e element) netlink() []nftables.SetElement {
	s := nftables.SetElement{Key: []byte(e.key), Val: []byte(e.val)}
	if e.to != (verdict{}) {
		s.Val, s.VerdictData = nil, &expr.Verdict{Kind: kinds[e.to.word], Chain: e.to.chain}
	}
	if e.end == "" {
		return []nftables.SetElement{s}
	}
	return []nftables.SetElement{s, {Key: []byte(e.end), IntervalEnd: true}}
}

func ifname(name string) string {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return string(b)
}

// portKey is protocol and port, each filled up to four octets, as in every concatenation.
func portKey(proto string, port uint16) string {
	b := make([]byte, 8)
	b[0] = protocols[proto]
	binary.BigEndian.PutUint16(b[4:], port)
	return string(b)
}

func port4(port uint16) string {
	b := make([]byte, 4)
	binary.BigEndian.PutUint16(b, port)
	return string(b)
}

func octets(a netip.Addr) string { return string(a.AsSlice()) }

// afterPrefix is the first address behind a subnet, as octets; empty behind the last one.
func afterPrefix(p netip.Prefix) string {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	if next := last.Next(); next.IsValid() {
		return octets(next)
	}
	return ""
}

// ofNetwork are the elements that a network needs.
func (w *wanted) ofNetwork(n Network) (es []element) {
	br := ifname(n.Bridge)
	for _, f := range families {
		s := n.side(f)
		if len(s.subnets) == 0 {
			continue
		}
		add := func(set setName, key string, to verdict) {
			es = append(es, element{family: f, set: set, key: key, to: to})
		}
		add(bridges, br, verdict{})
		if n.ICC {
			add(within, br+br, verdict{word: "accept"})
		} else {
			add(within, br+br, verdict{"goto", chainStrangers})
		}
		if n.Internal {
			add(leaving, br, verdict{word: "drop"})
			add(entering, br, verdict{word: "drop"})
			if s.mode == Isolated {
				add(isolated, br, verdict{})
			}
			continue
		}
		switch s.mode {
		case NATUnprotected:
			add(entering, br, verdict{"goto", chainOpen})
		case Routed:
			add(entering, br, verdict{"goto", chainRouted})
			continue
		default:
			add(entering, br, verdict{"goto", chainNAT})
			for _, t := range n.Trusted {
				add(trusted, ifname(t)+br, verdict{})
			}
		}
		if n.Masquerade {
			add(leaving, br, verdict{"jump", chainMasked})
		}
		for _, p := range s.subnets {
			es = append(es, element{
				family: f, set: sources, key: octets(p.Masked().Addr()), end: afterPrefix(p),
				to: verdict{"goto", chainFrom(n.Bridge)},
			})
		}
	}
	return es
}

// ofPort are the elements that a published port needs.
func (w *wanted) ofPort(m Mapping, n Network) []element {
	f := familyOf(m.Target.Addr())
	mode := n.side(f).mode
	var es []element
	if mode == Routed || mode == NAT && (len(n.Trusted) > 0 || w.cfg.DirectRouting) {
		es = append(es, element{family: f, set: openings, key: octets(m.Target.Addr()) + portKey(m.Proto, m.Target.Port())})
	}
	if mode == Routed {
		return es
	}
	p := element{
		family: f, set: onAny, key: portKey(m.Proto, m.Port),
		val: octets(m.Target.Addr()) + port4(m.Target.Port()),
	}
	if !m.Host.IsUnspecified() {
		p.set, p.key = onAddr, octets(m.Host)+p.key
	}
	if w.cfg.RespectHost {
		j := p
		j.val, j.set = "", judged
		if p.set == onAddr {
			j.set = judgedOn
		}
		es = append(es, j)
	}
	return append(es, p)
}
