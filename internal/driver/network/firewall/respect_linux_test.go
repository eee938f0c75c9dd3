package firewall

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// judged is a town whose host has a firewall, and two containers: published ports
// 8080 (TCP, UDP) and 8081, both families.
func newJudged(t *testing.T) (w *town, web *os.File, f *Firewall) {
	w = newTown(t)
	w.bridge("gtest0", 0)
	f = open(t, Config{RespectHost: true}, network("gtest0", 0))
	for _, proto := range []string{"tcp", "udp"} {
		for _, p := range []uint16{8080, 8081} {
			must(t, f.Add([]Mapping{port(proto, "", p, "172.30.0.2:80"), port(proto, "", p, "[fd00:30::2]:80")}))
		}
		must(t, f.Add([]Mapping{port(proto, "192.168.50.1", 8082, "172.30.0.2:80"), port(proto, "127.0.0.1", 8083, "172.30.0.2:80")}))
	}
	must(t, f.Rebuild())
	web = w.container("gtest0", 0, 2)
	w.serve(web, 80)
	return w, web, f
}

func TestRespectNone(t *testing.T) {
	w, web, _ := newJudged(t)
	neighbour := w.container("gtest0", 0, 3)
	check(t, []question{
		{"from the LAN", w.lan, "192.168.50.1:8080", "192.168.50.2"},
		{"from the LAN", w.lan, "[fd50::1]:8080", "fd50::2"},
		{"from afar", w.far, "10.80.0.1:8080", "10.80.0.2"},
		{"from afar", w.far, "[fd80::1]:8080", "fd80::2"},
		{"one address", w.lan, "192.168.50.1:8082", "192.168.50.2"},
		{"another address", w.far, "10.80.0.1:8082", refused},
		{"loopback", w.lan, "192.168.50.1:8083", refused},
		{"loopback", nil, "127.0.0.1:8083", "172.30.0.1"},
		{"the host itself", nil, "192.168.50.1:8080", "192.168.50.1"},
		{"hairpin", neighbour, "172.30.0.1:8080", "172.30.0.1"},
		{"itself", web, "192.168.50.1:8080", "172.30.0.1"},
		{"nobody's port", w.lan, "192.168.50.1:8099", refused},
		{"direct", w.lan, "172.30.0.2:80", silence},
	})
}

// TestRespectRules: reject, reset and drop of the host's chains reach who asked; so does
// its choice of sources and interfaces. The host checks sources strictly, over both families.
func TestRespectRules(t *testing.T) {
	must(t, netlink.WriteSysctl("net.ipv4.conf.all.rp_filter", "1"))
	t.Cleanup(func() { must(t, netlink.WriteSysctl("net.ipv4.conf.all.rp_filter", "0")) })
	w, _, _ := newJudged(t)
	neighbour := w.container("gtest0", 0, 3)
	load(t, `table inet hostfw {
		chain strict {
			type filter hook prerouting priority filter + 10; policy accept;
			icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
			meta nfproto ipv6 fib saddr . mark . iif oif missing drop
		}
		chain input {
			type filter hook input priority filter; policy drop;
			ct state established,related accept
			ct state invalid drop
			iifname "lo" accept
			icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
			ip saddr 10.80.0.2 reject with icmp admin-prohibited
			ip6 saddr fd80::2 tcp dport 8080 reject with icmpv6 admin-prohibited
			meta l4proto { tcp, udp } th dport 8080 accept
			tcp dport 8081 reject with tcp reset
			udp dport 8081 reject
		}
		chain output {
			type filter hook output priority filter; policy drop;
			ct state established,related accept
			oifname "lo" accept
			oifname "gtest0" accept
			icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
			meta l4proto { icmp, ipv6-icmp } accept
			tcp flags rst accept
		}
	}`)
	waitFor(t, "our accept in its output chain", func() bool {
		return strings.Contains(nft(t, "list", "table", "inet", "hostfw"), testTable+" handed over")
	})
	check(t, []question{
		{"accepted", w.lan, "192.168.50.1:8080", "192.168.50.2"},
		{"accepted", w.lan, "[fd50::1]:8080", "fd50::2"},
		{"rejected", w.lan, "192.168.50.1:8081", refused},
		{"rejected", w.lan, "[fd50::1]:8081", refused},
		{"dropped", w.lan, "192.168.50.1:8082", silence},
		{"rejected by its source", w.far, "10.80.0.1:8080", prohibited},
		{"dropped by its source", w.far, "[fd80::1]:8081", refused},
		{"the host itself is not judged", nil, "127.0.0.1:8081", "172.30.0.1"},
		{"a container is not judged", neighbour, "172.30.0.1:8081", "172.30.0.1"},
	})
	// What is established goes on when the host changes its mind, as with a program of its own.
	c := dial(t, w.lan, "192.168.50.1:8080")
	nft(t, "flush", "chain", "inet", "hostfw", "input")
	if got := ask(w.lan, "tcp", "192.168.50.1:8080", brevity); got != silence {
		t.Errorf("a new connection after the rules changed: %s", got)
	}
	echo(t, c)
}

// TestRespectLargePackets: fragments of a first packet are put together, judged and handed over.
func TestRespectLargePackets(t *testing.T) {
	w, _, _ := newJudged(t)
	load(t, `table inet hostfw {
		chain input {
			type filter hook input priority filter; policy accept;
			udp dport 8081 drop
		}
	}`)
	large := make([]byte, 20000)
	for _, q := range []struct{ to, sees string }{
		{"192.168.50.1:8080", "192.168.50.2"}, {"[fd50::1]:8080", "fd50::2"}, {"192.168.50.1:8081", silence}, {"[fd50::1]:8081", silence},
	} {
		wait := patience
		if q.sees == silence {
			wait = brevity
		}
		if got := askWith(w.lan, "udp", q.to, wait, large); got != q.sees {
			t.Errorf("%d octets to %s: %s; want %s", len(large), q.to, got, q.sees)
		}
	}
}

// TestRespectFirstPacket: the first datagram of a flow arrives, not just its repetition,
// and all of a burst.
func TestRespectFirstPacket(t *testing.T) {
	w, web, f := newJudged(t)
	var srv net.PacketConn
	must(t, netlink.Do(web, func() (err error) { srv, err = net.ListenPacket("udp", ":99"); return err }))
	defer srv.Close()
	for _, c := range []struct{ to, target string }{{"192.168.50.1:9900", "172.30.0.2:99"}, {"[fd50::1]:9900", "[fd00:30::2]:99"}} {
		must(t, f.Add([]Mapping{port("udp", "", 9900, c.target)}))
		var u net.Conn
		must(t, netlink.Do(w.lan, func() (err error) { u, err = net.Dial("udp", c.to); return err }))
		const burst = 20
		for i := range byte(burst) {
			_, err := u.Write([]byte{i})
			must(t, err)
		}
		got := map[byte]bool{}
		buf := make([]byte, 16)
		_ = srv.SetReadDeadline(time.Now().Add(patience))
		for len(got) < burst {
			n, _, err := srv.ReadFrom(buf)
			if err != nil {
				t.Errorf("%s: of %d datagrams these arrived: %v; %v", c.to, burst, got, err)
				break
			}
			if n != 1 || got[buf[0]] {
				t.Errorf("%s: %v arrived again, or changed", c.to, buf[:n])
			}
			got[buf[0]] = true
		}
		_ = u.Close()
	}
}

// TestRespectLoopRepaired: an end that somebody deleted is made again, and the rules name it.
func TestRespectLoopRepaired(t *testing.T) {
	w, _, f := newJudged(t)
	for range 2 {
		ip(t, "link", "del", testTable+"-in")
		must(t, f.Repair())
		check(t, []question{{"after a repair", w.lan, "192.168.50.1:8080", "192.168.50.2"}, {"after a repair", w.lan, "[fd50::1]:8080", "fd50::2"}})
	}
}

// TestRespectSwitchedOff: a daemon without the option takes the loop away.
func TestRespectSwitchedOff(t *testing.T) {
	f := open(t, Config{RespectHost: true}, network("gtest0", 0))
	must(t, f.Rebuild())
	if got := ip(t, "link"); !strings.Contains(got, testTable+"-in") {
		t.Fatalf("no loop: %s", got)
	}
	must(t, f.Close(false))
	next := open(t, Config{}, network("gtest0", 0))
	must(t, next.Rebuild())
	if got := ip(t, "link") + ip(t, "rule") + ip(t, "-6", "rule"); strings.Contains(got, testTable) || strings.Contains(got, "fwmark") {
		t.Errorf("left of the loop: %s", got)
	}
}

// TestRespectAForeignInterface: a name that somebody has is not taken from him.
func TestRespectAForeignInterface(t *testing.T) {
	ip(t, "link", "add", testTable+"-out", "type", "bridge")
	t.Cleanup(func() { ip(t, "link", "del", testTable+"-out") })
	f, err := New(Config{Table: testTable, RespectHost: true})
	must(t, err)
	defer f.Close(false)
	if err := f.Rebuild(); err == nil || !strings.Contains(err.Error(), testTable+"-out is a bridge") {
		t.Errorf("an interface of that name: %v", err)
	}
}

func load(t *testing.T, rules string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.nft")
	must(t, os.WriteFile(path, []byte(rules), 0o600))
	nft(t, "-f", path)
	t.Cleanup(func() { nft(t, "delete", "table", "inet", "hostfw") })
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s:\n%s", what, nft(t, "list", "ruleset"))
		}
	}
}

// dial opens a connection to a server that answers each line.
func dial(t *testing.T, ns *os.File, addr string) net.Conn {
	t.Helper()
	var c net.Conn
	must(t, netlink.Do(ns, func() (err error) { c, err = net.DialTimeout("tcp", addr, patience); return err }))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// echo reads what the server says, to the end of the connection.
func echo(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(got), "192.168.50.2") {
		t.Errorf("an open connection: %q, %v", got, err)
	}
}
