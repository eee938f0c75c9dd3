package firewall

import (
	"net/netip"
	"os"
	"testing"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// TestReachability asks every question about who reaches whom by a packet, for each
// mode, over both families, TCP and UDP.
func TestReachability(t *testing.T) {
	w := newTown(t)
	for _, n := range everyKind() {
		w.bridge(n.Bridge, int(n.V4[0].Addr().As4()[2]))
	}
	f := open(t, Config{}, everyKind()...)
	var both []Mapping
	for _, target := range []string{"172.30.0.2", "fd00:30::2", "172.30.1.2", "fd00:30:1::2", "172.30.2.2", "fd00:30:2::2", "172.30.5.2", "fd00:30:5::2", "172.30.6.2", "fd00:30:6::2"} {
		a := netip.MustParseAddr(target)
		n := uint16(a.As16()[5]) // network number of IPv6
		if a.Is4() {
			n = uint16(a.As4()[2])
		}
		for _, proto := range []string{"tcp", "udp"} {
			both = append(both, Mapping{Proto: proto, Port: 8000 + n, Target: netip.AddrPortFrom(a, 80)})
		}
	}
	for _, proto := range []string{"tcp", "udp"} {
		both = append(both, port(proto, "127.0.0.1", 8100, "172.30.0.2:80"), port(proto, "192.168.50.1", 8101, "172.30.0.2:80"), port(proto, "fd50::1", 8101, "[fd00:30::2]:80"))
	}
	must(t, f.Add(both))
	must(t, f.Rebuild())
	c := map[string]*os.File{}
	for name, at := range map[string][2]int{
		"nat": {0, 2}, "natNeighbour": {0, 3}, "open": {1, 2}, "routed": {2, 2}, "internal": {3, 2}, "internalNeighbour": {3, 3},
		"isolated": {4, 2}, "isolatedNeighbour": {4, 3}, "quiet": {5, 2}, "trusting": {6, 2},
	} {
		bridges := map[int]string{0: "gtest0", 1: "gun", 2: "grt", 3: "gint", 4: "giso", 5: "gquiet", 6: "gtrust"}
		c[name] = w.container(bridges[at[0]], at[0], at[1])
		w.serve(c[name], 80, 81)
	}
	w.serve(w.far, 7000)
	w.serve(nil, 7001)

	const lan4, lan6, far4, far6 = "192.168.50.2", "fd50::2", "10.80.0.2", "fd80::2"
	check(t, []question{
		{"published, from the LAN", w.lan, "192.168.50.1:8000", lan4},
		{"published, from the LAN", w.lan, "[fd50::1]:8000", lan6},
		{"published, from afar", w.far, "10.80.0.1:8000", far4},
		{"published, from afar", w.far, "[fd80::1]:8000", far6},
		{"published, at the host's other address", w.lan, "10.80.0.1:8000", lan4},
		{"published on one address, at it", w.lan, "192.168.50.1:8101", lan4},
		{"published on one address, at it", w.lan, "[fd50::1]:8101", lan6},
		{"published on one address, at another", w.far, "10.80.0.1:8101", refused},
		{"published on one address, at another", w.far, "[fd80::1]:8101", refused},
		{"published on loopback, from the LAN", w.lan, "192.168.50.1:8100", refused},
		{"published, from the host's loopback", nil, "127.0.0.1:8000", "172.30.0.1"},
		{"published on loopback, from there", nil, "127.0.0.1:8100", "172.30.0.1"},
		{"published, from the host", nil, "192.168.50.1:8000", "192.168.50.1"},
		{"published, from the host", nil, "[fd50::1]:8000", "fd50::1"},
		{"not published, from the host, direct", nil, "172.30.0.2:81", "172.30.0.1"},
		{"not published, from the host, direct", nil, "[fd00:30::2]:81", "fd00:30::1"},

		{"not published, direct", w.lan, "172.30.0.2:81", silence},
		{"not published, direct", w.lan, "[fd00:30::2]:81", silence},
		{"published, direct", w.lan, "172.30.0.2:80", silence},
		{"published, direct", w.lan, "[fd00:30::2]:80", silence},

		{"hairpin to itself", c["nat"], "192.168.50.1:8000", "172.30.0.1"},
		{"hairpin to itself", c["nat"], "[fd50::1]:8000", "fd00:30::1"},
		{"hairpin from a neighbour", c["natNeighbour"], "172.30.0.1:8000", "172.30.0.1"},
		{"hairpin from a neighbour", c["natNeighbour"], "[fd00:30::1]:8000", "fd00:30::1"},
		{"neighbour, direct", c["natNeighbour"], "172.30.0.2:81", "172.30.0.3"},
		{"neighbour, direct", c["natNeighbour"], "[fd00:30::2]:81", "fd00:30::3"},
		{"another network, published", c["open"], "192.168.50.1:8000", "172.30.0.1"},
		{"another network, published", c["open"], "[fd50::1]:8000", "fd00:30::1"},
		{"another network, direct", c["open"], "172.30.0.2:80", silence},
		{"another network, direct", c["open"], "[fd00:30::2]:80", silence},
		{"out, masqueraded", c["nat"], far4 + ":7000", "10.80.0.1"},
		{"out, masqueraded", c["nat"], "[" + far6 + "]:7000", "fd80::1"},
		{"to the host", c["nat"], "172.30.0.1:7001", "172.30.0.2"},
		{"to the host", c["nat"], "[fd00:30::1]:7001", "fd00:30::2"},

		{"unprotected, published", w.lan, "192.168.50.1:8001", lan4},
		{"unprotected, direct", w.lan, "172.30.1.2:81", lan4},
		{"unprotected, direct", w.lan, "[fd00:30:1::2]:81", lan6},
		{"unprotected, from another network", c["nat"], "172.30.1.2:81", silence},
		{"unprotected, from another network", c["nat"], "[fd00:30:1::2]:81", silence},
		{"unprotected, out", c["open"], far4 + ":7000", "10.80.0.1"},

		{"routed, opened", w.lan, "172.30.2.2:80", lan4},
		{"routed, opened", w.lan, "[fd00:30:2::2]:80", lan6},
		{"routed, not opened", w.lan, "172.30.2.2:81", silence},
		{"routed, not opened", w.lan, "[fd00:30:2::2]:81", silence},
		{"routed, at the host", w.lan, "192.168.50.1:8002", refused},
		{"routed, at the host", w.lan, "[fd50::1]:8002", refused},
		{"routed, from another network", c["nat"], "172.30.2.2:80", "172.30.2.1"},
		{"routed, not opened, from another network", c["nat"], "172.30.2.2:81", silence},
		{"routed, out, nobody routes back", c["routed"], far4 + ":7000", silence},
		{"routed, to a published port", c["routed"], "192.168.50.1:8000", "172.30.2.2"},

		{"internal, out", c["internal"], far4 + ":7000", silence},
		{"internal, out", c["internal"], "[" + far6 + "]:7000", silence},
		{"internal, neighbour", c["internalNeighbour"], "172.30.3.2:81", "172.30.3.3"},
		{"internal, neighbour", c["internalNeighbour"], "[fd00:30:3::2]:81", "fd00:30:3::3"},
		{"internal, to the host", c["internal"], "172.30.3.1:7001", "172.30.3.2"},
		{"internal, to the host", c["internal"], "[fd00:30:3::1]:7001", "fd00:30:3::2"},
		{"internal, from the host", nil, "172.30.3.2:81", "172.30.3.1"},
		{"internal, from the LAN", w.lan, "172.30.3.2:81", silence},
		{"internal, from another network", c["nat"], "172.30.3.2:81", silence},
		{"internal, to another network", c["internal"], "172.30.2.2:80", silence},
		{"internal, to a published port", c["internal"], "192.168.50.1:8000", silence},

		{"isolated, out", c["isolated"], far4 + ":7000", silence},
		{"isolated, neighbour", c["isolatedNeighbour"], "172.30.4.2:81", "172.30.4.3"},
		{"isolated, neighbour", c["isolatedNeighbour"], "[fd00:30:4::2]:81", "fd00:30:4::3"},
		{"isolated, to the host", c["isolated"], "172.30.4.1:7001", silence},
		{"isolated, to the host", c["isolated"], "192.168.50.1:7001", silence},
		{"isolated, from the LAN", w.lan, "172.30.4.2:81", silence},

		{"not masqueraded, out, nobody routes back", c["quiet"], far4 + ":7000", silence},
		{"not masqueraded, published", w.lan, "192.168.50.1:8005", lan4},

		{"trusting, published, direct, from an untrusted interface", w.lan, "172.30.6.2:80", silence},
	})
	// An address of the host's to send from, which afar has a way back to.
	w.in(nil, "ip", "addr", "add", "192.0.2.7/32", "dev", "lo")
	w.in(w.far, "ip", "route", "add", "192.0.2.7/32", "via", "10.80.0.1")
	w.in(nil, "ip", "-6", "addr", "add", "2001:db8::7/128", "dev", "lo", "nodad")
	w.in(w.far, "ip", "-6", "route", "add", "2001:db8::7/128", "via", "fd80::1")
	trusting := everyKind()[6]
	must(t, f.RemoveNetwork("gtrust"))
	trusting.Trusted = []string{"eth0"}
	must(t, f.AddNetwork(trusting))
	must(t, f.Add([]Mapping{port("tcp", "127.0.0.1", 8006, "172.30.6.2:80"), port("udp", "127.0.0.1", 8006, "172.30.6.2:80")}))
	w.in(w.far, "ip", "route", "add", "172.30.0.0/16", "via", "10.80.0.1")
	check(t, []question{
		{"out, from an address that was chosen", c["trusting"], far4 + ":7000", "192.0.2.7"},
		{"out, from an address that was chosen", c["trusting"], "[" + far6 + "]:7000", "2001:db8::7"},
		{"trusting, published, direct", w.lan, "172.30.6.2:80", lan4},
		{"trusting, not published, direct", w.lan, "172.30.6.2:81", silence},
		{"trusting, published, direct, from elsewhere", w.far, "172.30.6.2:80", silence},
	})
	for _, c := range []struct {
		what string
		from *os.File
		to   string
		want bool
	}{
		{"routed, ping", w.lan, "172.30.2.2", true}, {"routed, ping", w.lan, "fd00:30:2::2", true},
		{"nat, ping", w.lan, "172.30.0.2", false}, {"nat, ping", w.lan, "fd00:30::2", false},
		{"unprotected, ping", w.lan, "172.30.1.2", true}, {"internal, ping", w.lan, "fd00:30:3::2", false},
		{"nat, ping outwards", c["nat"], far4, true}, {"nat, ping outwards", c["nat"], far6, true},
	} {
		wait := patience
		if !c.want {
			wait = brevity
		}
		if got := ping(t, c.from, c.to, wait); got != c.want {
			t.Errorf("%s to %s: answered %t, want %t", c.what, c.to, got, c.want)
		}
	}
}

// TestBridgedPackets: where the kernel passes bridged packets through the rules, icc
// decides, and a neighbour still reaches what is published.
func TestBridgedPackets(t *testing.T) {
	w := newTown(t)
	for _, name := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
		if err := netlink.WriteSysctl(name, "1"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = netlink.WriteSysctl(name, "0") })
	}
	quiet := network("gquiet", 5)
	quiet.ICC = false
	f := open(t, Config{}, network("gtest0", 0), quiet)
	for _, n := range f.wanted.networks {
		number := int(n.V4[0].Addr().As4()[2])
		w.bridge(n.Bridge, number)
	}
	must(t, f.Rebuild())
	for _, proto := range []string{"tcp", "udp"} {
		must(t, f.Add([]Mapping{
			port(proto, "", 8000, "172.30.0.2:80"), port(proto, "", 8000, "[fd00:30::2]:80"),
			port(proto, "", 8005, "172.30.5.2:80"), port(proto, "", 8005, "[fd00:30:5::2]:80"),
		}))
	}
	server, neighbour := w.container("gtest0", 0, 2), w.container("gtest0", 0, 3)
	secret, stranger := w.container("gquiet", 5, 2), w.container("gquiet", 5, 3)
	w.serve(server, 80, 81)
	w.serve(secret, 80, 81)
	check(t, []question{
		{"icc", neighbour, "172.30.0.2:81", "172.30.0.3"},
		{"icc", neighbour, "[fd00:30::2]:81", "fd00:30::3"},
		{"icc, hairpin", neighbour, "172.30.0.1:8000", "172.30.0.1"},
		{"icc, to itself", server, "172.30.0.1:8000", "172.30.0.1"},
		{"no icc", stranger, "172.30.5.2:81", silence},
		{"no icc", stranger, "[fd00:30:5::2]:81", silence},
		{"no icc, published, direct", stranger, "172.30.5.2:80", silence},
		{"no icc, published", stranger, "172.30.5.1:8005", "172.30.5.1"},
		{"no icc, published", stranger, "[fd00:30:5::1]:8005", "fd00:30:5::1"},
		{"no icc, from the host", nil, "172.30.5.2:81", "172.30.5.1"},
		{"no icc, from the LAN", w.lan, "192.168.50.1:8005", "192.168.50.2"},
	})
}
