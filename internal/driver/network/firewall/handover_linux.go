package firewall

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	rtnetlink "github.com/gantry-engine/gantry/internal/sys/netlink"
)

// With --respect-host-firewall the host judges who may reach a published port, as if
// a program of its own listened there:
//
//	packet from outside, to a published port, first of its connection
//	  prerouting   not translated
//	  input        the host's chains: theirs is the port, the interface and the source as sent
//	  input, last  ours: who comes this far is accepted. The packet is dropped, its
//	               copy leaves by gantry-out …
//	  prerouting   … and enters by gantry-in, is tracked anew, translated, and goes on
//	               to the container
//
// conntrack translates everything that follows, so only first packets take this way.
// The copy is untracked until it enters, and the original's connection was never
// confirmed: it goes with the original.

// handover is the loop that accepted packets take.
type handover struct {
	out, in string
	index   int // of out; 0 before it is there
}

// newHandover names the loop after the table, so that each engine has its own.
func newHandover(table string) *handover {
	const suffix = len("-out")
	if len(table) > maxName-suffix {
		sum := sha256.Sum256([]byte(table))
		table = "gnt" + hex.EncodeToString(sum[:4])
	}
	return &handover{out: table + "-out", in: table + "-in"}
}

// What the copies are sent to. Nobody has these addresses, and neighbours are not
// resolved on the loop: they only choose the interface.
var (
	nextHop4 = netip.MustParseAddr("192.0.0.8") // RFC 7600: dummy address
	nextHop6 = netip.MustParseAddr("fe80::c000:8")

	loopAddress = netip.MustParseAddr("127.0.0.8")
)

// loopMAC is both ends' hardware address: locally administered, "gntry" in ASCII.
var loopMAC = net.HardwareAddr{0x06, 'g', 'n', 't', 'r', 'y'}

// passing is the mark of copies until they are routed. Hosts that check sources by packet
// rules, as firewalld does over IPv6, ask where a packet with this mark would be
// answered (fib saddr . mark . iif), and a table of routing says: where it came in. IPv4's
// own check is a setting of the interface. A mark that somebody else has set is left.
const passing = 0x67

// answers is that table. Two engines on a host share it; only one of them can have
// a route there, and only for such a check.
var answers = rtnetlink.MarkRule{Mark: passing, Table: bridgeGroup, Priority: 100}

// there tells whether both ends are there, the one with the index that rules name.
func (h *handover) there(routes *rtnetlink.Conn) bool {
	out, err := routes.Link(h.out)
	if err != nil || out.Index != h.index || !out.Up {
		return false
	}
	in, err := routes.Link(h.in)
	return err == nil && in.Up
}

// open makes the loop, anew if it is damaged.
func (h *handover) open(routes *rtnetlink.Conn) error {
	if h.index != 0 && h.there(routes) {
		return nil
	}
	err := h.remove(routes)
	if err == nil {
		err = h.make(routes)
	}
	if err != nil {
		return fmt.Errorf("making the way of packets that the host's firewall has accepted (--respect-host-firewall): %w", err)
	}
	return nil
}

func (h *handover) make(routes *rtnetlink.Conn) error {
	if err := routes.AddLoop(h.out, h.in, loopMAC); err != nil {
		return err
	}
	// The larger of this and the setting of all interfaces counts: 2 is loose. It asks for an address, too.
	if err := routes.AddHostAddress(h.in, loopAddress); err != nil {
		return err
	}
	if err := rtnetlink.WriteSysctl("net/ipv4/conf/"+h.in+"/rp_filter", "2"); err != nil {
		return err
	}
	l, err := routes.Link(h.out)
	if err != nil {
		return err
	}
	h.index = l.Index
	err = errors.Join(routes.AddLinkRoute(h.in, netip.MustParsePrefix("0.0.0.0/0"), answers.Table), routes.AddMarkRule(answers))
	if _, none := os.Stat("/proc/sys/net/ipv6"); err != nil || none != nil {
		return err
	}
	for _, name := range []string{h.out, h.in} {
		for setting, value := range map[string]string{"disable_ipv6": "0", "accept_ra": "0"} {
			if err := rtnetlink.WriteSysctl("net/ipv6/conf/"+name+"/"+setting, value); err != nil {
				return err
			}
		}
	}
	return errors.Join(
		routes.AddLinkRoute(h.out, netip.PrefixFrom(nextHop6, 128), 0),
		routes.AddLinkRoute(h.in, netip.MustParsePrefix("::/0"), answers.Table),
	)
}

// remove takes away what there is of the loop.
func (h *handover) remove(routes *rtnetlink.Conn) error {
	h.index = 0
	var errs []error
	for _, name := range []string{h.out, h.in} { // either end takes the other along
		l, err := routes.Link(name)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			errs = append(errs, err)
		case l.Kind != "veth":
			errs = append(errs, fmt.Errorf("network interface %s is a %s, and not ours: rename it", name, l.Kind))
		default:
			errs = append(errs, routes.Delete(l), routes.DeleteMarkRule(answers))
		}
	}
	return errors.Join(errs...)
}

// last is behind all other chains of a hook: only conntrack's confirmation (the largest
// number) comes later.
const last = nftables.ChainPriority(1<<31 - 2)

// judge writes the chains that hand over what the host has accepted.
func (t *table) judge(h *handover) {
	f := t.family
	next := nextHop4
	if f == ip6 {
		next = nextHop6
	}
	hand := t.chain(chainHandOver)
	t.rule(hand, mark(0), setMark(passing))
	t.rule(hand, []expr.Any{
		&expr.Immediate{Register: 1, Data: next.AsSlice()},
		&expr.Immediate{Register: 2, Data: binaryutil.NativeEndian.PutUint32(uint32(h.index))},
		&expr.Dup{RegAddr: 1, RegDev: 2, IsRegDevSet: true},
	})
	t.rule(hand, discard())

	handed := t.base("handed_over", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, last)
	t.rule(handed, iface(expr.MetaKeyIIFNAME, h.in, expr.CmpOpEq), mark(passing), setMark(0))

	in := t.base("accepted", nftables.ChainTypeFilter, nftables.ChainHookInput, last)
	t.rule(in, established(), accept())
	t.rule(in, iface(expr.MetaKeyIIFNAME, "lo", expr.CmpOpEq), accept())
	t.rule(in, iface(expr.MetaKeyIIFNAME, h.in, expr.CmpOpEq), accept())
	for _, withAddr := range []bool{true, false} {
		set := t.sets[judged]
		if withAddr {
			set = t.sets[judgedOn]
		}
		t.rule(in, toHost(), f.destination(withAddr), []expr.Any{lookup(set, unix.NFT_REG32_00)}, toward(chainHandOver))
	}
}
