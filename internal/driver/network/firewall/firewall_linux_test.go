package firewall

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
	"github.com/gantry-engine/gantry/internal/testkit"
)

var update = flag.Bool("update", false, "rewrite the golden rule sets")

func TestMain(m *testing.M) { testkit.Main(m) }

const testTable = "gantrytest"

func nft(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// ours lists our tables.
func ours(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, f := range families {
		if strings.Contains(nft(t, "list", "tables", f.name), " "+testTable+"\n") {
			b.WriteString(nft(t, "list", "table", f.name, testTable))
		}
	}
	return b.String()
}

// open makes a firewall with networks; the test's end looks for what it left.
func open(t testing.TB, cfg Config, networks ...Network) *Firewall {
	t.Helper()
	cfg.Table = testTable
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(true); err != nil {
			t.Error(err)
		}
		if out := nft(t, "list", "ruleset"); strings.Contains(out, testTable) {
			t.Errorf("left after the firewall's end:\n%s", out)
		}
	})
	for _, n := range networks {
		if err := f.AddNetwork(n); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func prefixes(all ...string) (out []netip.Prefix) {
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// network is the usual one: dual stack, NAT.
func network(bridge string, n int) Network {
	return Network{
		Bridge: bridge, V4: prefixes(fmt.Sprintf("172.30.%d.0/24", n)), V6: prefixes(fmt.Sprintf("fd00:30:%d::/64", n)),
		Masquerade: true, ICC: true,
	}
}

func port(proto, host string, port uint16, target string) Mapping {
	m := Mapping{Proto: proto, Port: port, Target: netip.MustParseAddrPort(target)}
	if host != "" {
		m.Host = netip.MustParseAddr(host)
	}
	return m
}

var (
	web   = port("tcp", "0.0.0.0", 8080, "172.30.0.2:80")
	local = port("udp", "127.0.0.1", 5353, "172.30.0.3:53")
	web6  = port("tcp", "", 8080, "[fd00:30::2]:80")
	one6  = port("sctp", "2001:db8::1", 2905, "[fd00:30::2]:2905")
)

// families of networks for the golden rule sets: one of each kind.
func everyKind() []Network {
	unprotected, routed, internal, isolated, quiet, trusting := network("gun", 1), network("grt", 2), network("gint", 3), network("giso", 4), network("gquiet", 5), network("gtrust", 6)
	unprotected.Mode4, unprotected.Mode6 = NATUnprotected, NATUnprotected
	routed.Mode4, routed.Mode6 = Routed, Routed
	internal.Internal = true
	isolated.Internal, isolated.Mode4, isolated.Mode6 = true, Isolated, Isolated
	quiet.ICC, quiet.Masquerade = false, false
	trusting.Trusted, trusting.HostIPv4, trusting.HostIPv6 = []string{"eth3", "vxlan.1"}, netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
	return []Network{network("gtest0", 0), unprotected, routed, internal, isolated, quiet, trusting}
}

func TestGolden(t *testing.T) {
	four := network("gtest0", 0)
	four.V6 = nil
	for name, c := range map[string]struct {
		cfg      Config
		networks []Network
		ports    []Mapping
	}{
		"empty":   {},
		"default": {networks: []Network{four}},
		"ports":   {networks: []Network{network("gtest0", 0)}, ports: []Mapping{web, local, web6, one6}},
		"router":  {cfg: Config{NoRouter: true, NoRouter6: true, DirectRouting: true}, networks: []Network{four}, ports: []Mapping{web}},
		"respect": {cfg: Config{RespectHost: true, AcceptMark: Mark{1, 3}}, networks: []Network{network("gtest0", 0)}, ports: []Mapping{web, local, web6, one6}},
		"kinds": {networks: everyKind(), ports: []Mapping{
			web, web6, port("tcp", "", 8081, "172.30.1.2:80"), port("tcp", "", 0, "172.30.2.2:80"), port("tcp", "", 0, "[fd00:30:2::2]:80"),
			port("udp", "192.0.2.1", 53, "172.30.6.2:53"),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.cfg.NoRouter6 { // only where the host forwards
				must(t, netlink.WriteSysctl("net.ipv6.conf.all.forwarding", "1"))
				t.Cleanup(func() { must(t, netlink.WriteSysctl("net.ipv6.conf.all.forwarding", "0")) })
			}
			f := open(t, c.cfg, c.networks...)
			must(t, f.Add(c.ports))
			for range 2 { // the second time it replaces tables that are there
				must(t, f.Rebuild())
			}
			golden(t, name, ours(t))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name + ".nft"
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("rule set differs from %s (%v); got:\n%s", path, err, got)
	}
}

// sorted puts chains into an order that does not depend on when they were made.
func sorted(rules string) string {
	blocks := strings.Split(strings.ReplaceAll(rules, "\t}\n}\n", "\t}\n\n"), "\n\n")
	slices.Sort(blocks)
	return strings.Join(blocks, "\n\n")
}

// TestStepsArriveAtTheSame: what single changes lead to is what Rebuild makes at once.
func TestStepsArriveAtTheSame(t *testing.T) {
	f := open(t, Config{})
	must(t, f.Rebuild())
	golden(t, "empty", ours(t))
	ports := []Mapping{web, local, web6, one6}
	must(t, f.AddNetwork(network("gtest0", 0)))
	for _, n := range everyKind()[1:] {
		must(t, f.AddNetwork(n))
		must(t, f.AddNetwork(n)) // the same again
	}
	must(t, f.Add(ports))
	must(t, f.Add(ports))
	more := port("tcp", "", 8099, "172.30.1.2:80")
	must(t, f.Add([]Mapping{more}))
	before := sorted(ours(t))
	must(t, f.Rebuild())
	if after := sorted(ours(t)); after != before {
		t.Errorf("step by step:\n%s\nat once:\n%s", before, after)
	}
	for _, n := range everyKind()[1:] { // with its ports
		must(t, f.RemoveNetwork(n.Bridge))
		must(t, f.RemoveNetwork(n.Bridge))
	}
	golden(t, "ports", ours(t))
	must(t, f.Remove(ports))
	must(t, f.Remove(ports))
	must(t, f.RemoveNetwork("gtest0"))
	golden(t, "empty", ours(t))
}

// TestManyPortsToOne: an opening that two ports share stays until the last has gone.
func TestManyPortsToOne(t *testing.T) {
	n := network("gtest0", 0)
	n.Trusted = []string{"eth3"}
	f := open(t, Config{}, n)
	must(t, f.Rebuild())
	one, two := port("tcp", "", 8080, "172.30.0.2:80"), port("tcp", "", 8081, "172.30.0.2:80")
	must(t, f.Add([]Mapping{one, two}))
	for left, m := range []Mapping{one, two} {
		if got := strings.Contains(ours(t), "172.30.0.2 . tcp . 80 }"); !got {
			t.Errorf("with %d ports left to go the opening is not there:\n%s", 2-left, ours(t))
		}
		must(t, f.Remove([]Mapping{m}))
	}
	if got := ours(t); strings.Contains(got, "172.30.0.2") {
		t.Errorf("left:\n%s", got)
	}
}

func TestBadNetworks(t *testing.T) {
	f := open(t, Config{}, network("gtest0", 0))
	must(t, f.Rebuild())
	change := func(do func(*Network)) Network {
		n := network("gtest1", 1)
		do(&n)
		return n
	}
	before := ours(t)
	for what, c := range map[string]struct {
		n    Network
		is   func(error) bool
		says string
	}{
		"another of that bridge": {network("gtest0", 9), errdefs.IsAlreadyExists, "gtest0"},
		"overlapping":            {change(func(n *Network) { n.V4 = prefixes("172.30.0.0/16") }), errdefs.IsAlreadyExists, "172.30.0.0/24"},
		"a name too long":        {change(func(n *Network) { n.Bridge = "sixteen-letters-" }), errdefs.IsInvalidArgument, "15"},
		"a name with a quote":    {change(func(n *Network) { n.Bridge = "a b" }), errdefs.IsInvalidArgument, "not the name"},
		"a trusted one too":      {change(func(n *Network) { n.Trusted = []string{""} }), errdefs.IsInvalidArgument, "not the name"},
		"an unknown mode":        {change(func(n *Network) { n.Mode6 = "open" }), errdefs.IsInvalidArgument, "nat-unprotected"},
		"isolated, not internal": {change(func(n *Network) { n.Mode4 = Isolated }), errdefs.IsInvalidArgument, "--internal"},
		"families mixed up":      {change(func(n *Network) { n.V4 = n.V6 }), errdefs.IsInvalidArgument, "IPv4"},
		"and the other way":      {change(func(n *Network) { n.V6 = n.V4 }), errdefs.IsInvalidArgument, "IPv6"},
		"sending as nobody":      {change(func(n *Network) { n.HostIPv4 = netip.IPv4Unspecified() }), errdefs.IsInvalidArgument, "0.0.0.0"},
		"sending as another":     {change(func(n *Network) { n.HostIPv6 = netip.MustParseAddr("10.0.0.1") }), errdefs.IsInvalidArgument, "10.0.0.1"},
	} {
		if err := f.AddNetwork(c.n); !c.is(err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after := ours(t); after != before {
		t.Errorf("a refused network changed the rules:\n%s", after)
	}
}

func TestBadPorts(t *testing.T) {
	internal := network("gint", 3)
	internal.Internal = true
	f := open(t, Config{}, network("gtest0", 0), internal)
	must(t, f.Rebuild())
	must(t, f.Add([]Mapping{web}))
	before := ours(t)
	for what, c := range map[string]struct {
		m    Mapping
		is   func(error) bool
		says string
	}{
		"taken":             {port("tcp", "", 8080, "172.30.0.9:80"), errdefs.IsAlreadyExists, "172.30.0.2:80"},
		"unknown protocol":  {port("icmp", "", 8080, "172.30.0.9:80"), errdefs.IsInvalidArgument, "sctp"},
		"no network":        {port("tcp", "", 8082, "10.1.1.1:80"), errdefs.IsNotFound, "10.1.1.1:80"},
		"an internal one":   {port("tcp", "", 8082, "172.30.3.2:80"), errdefs.IsInvalidArgument, "internal"},
		"mixed families":    {port("tcp", "2001:db8::1", 8082, "172.30.0.2:80"), errdefs.IsInvalidArgument, "family"},
		"no port":           {port("tcp", "", 0, "172.30.0.2:80"), errdefs.IsInvalidArgument, "port of the host"},
		"no container port": {port("tcp", "", 8082, "172.30.0.2:0"), errdefs.IsInvalidArgument, "needed"},
		"no target":         {Mapping{Proto: "tcp", Port: 8082}, errdefs.IsInvalidArgument, "needed"},
	} {
		err := f.Add([]Mapping{port("tcp", "", 8083, "172.30.0.2:83"), c.m})
		if !c.is(err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after := ours(t); after != before {
		t.Errorf("refused ports changed the rules:\n%s", after)
	}
	must(t, f.Add([]Mapping{port("tcp", "", 8083, "172.30.0.2:83")})) // nothing of them was kept in mind
}

// TestUpgrade: the table of former releases, which had one, is replaced.
func TestUpgrade(t *testing.T) {
	nft(t, "add", "table", "ip", testTable)
	nft(t, "add", "map", "ip", testTable, "published", "{ type inet_proto . inet_service : ipv4_addr . inet_service; }")
	nft(t, "add", "chain", "ip", testTable, "forward", "{ type filter hook forward priority 0; policy accept; }")
	nft(t, "add", "rule", "ip", testTable, "forward", "oifname", "gtest0", "drop")
	four := network("gtest0", 0)
	four.V6 = nil
	f := open(t, Config{}, four)
	must(t, f.Rebuild())
	golden(t, "default", ours(t))
}

// TestSomebodyRemovedAnElement: a change that meets another state than we left makes all again.
func TestSomebodyRemovedAnElement(t *testing.T) {
	f := open(t, Config{}, network("gtest0", 0))
	must(t, f.Rebuild())
	must(t, f.Add([]Mapping{web, local, web6, one6}))
	must(t, f.watcher.close()) // it would be faster
	f.watcher = nil
	more := port("tcp", "", 8099, "172.30.0.2:80")
	must(t, f.Add([]Mapping{more}))
	nft(t, "delete", "element", "ip", testTable, "published", "{ tcp . 8099 }")
	nft(t, "delete", "element", "ip", testTable, "published", "{ tcp . 8080 }")
	must(t, f.Remove([]Mapping{more}))
	golden(t, "ports", ours(t))
}

// TestMany: hundreds of networks and thousands of ports are one transaction.
func TestMany(t *testing.T) {
	const networks, ports = 300, 6000
	f := open(t, Config{})
	var all []Mapping
	for n := range networks {
		four := netip.AddrFrom4([4]byte{10, byte(n / 250), byte(n % 250), 0})
		six := netip.MustParsePrefix(fmt.Sprintf("fd00:31:%x::/64", n))
		must(t, f.AddNetwork(Network{Bridge: fmt.Sprintf("gt%d", n), V4: []netip.Prefix{netip.PrefixFrom(four, 24)}, V6: []netip.Prefix{six}, Masquerade: true, ICC: true}))
		for i := range ports / networks {
			all = append(all, Mapping{Proto: "tcp", Port: uint16(10000 + n*ports/networks + i), Target: netip.AddrPortFrom(four.Next().Next(), uint16(80+i))})
		}
	}
	must(t, f.Rebuild())
	must(t, f.Add(all))
	must(t, f.Rebuild())
	if got := strings.Count(ours(t), " . tcp . ") + strings.Count(ours(t), "tcp . "); got < ports {
		t.Errorf("%d ports of %d are published", got, ports)
	}
	if got := strings.Count(ours(t), "chain from_"); got != 2*networks {
		t.Errorf("%d chains of networks, want %d", got, 2*networks)
	}
	must(t, f.Remove(all))
	for n := range networks {
		must(t, f.RemoveNetwork(fmt.Sprintf("gt%d", n)))
	}
	golden(t, "empty", ours(t))
}
