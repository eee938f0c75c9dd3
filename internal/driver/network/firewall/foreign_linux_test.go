package firewall

import (
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestForeignChains(t *testing.T) {
	for _, family := range []string{"ip", "ip6"} {
		nft(t, "add", "table", family, "filter")
		nft(t, "add", "chain", family, "filter", "FORWARD", "{ type filter hook forward priority 0; policy drop; }")
	}
	nft(t, "add", "table", "inet", "open")
	nft(t, "add", "chain", "inet", "open", "through", "{ type filter hook forward priority 0; policy accept; }")
	nft(t, "add", "table", "inet", "closing")
	nft(t, "add", "chain", "inet", "closing", "through", "{ type filter hook forward priority 10; policy accept; }")
	nft(t, "add", "rule", "inet", "closing", "through", "iifname", "eth7", "accept")
	nft(t, "add", "rule", "inet", "closing", "through", "meta", "l4proto", "tcp", "ct", "original", "proto-dst", "8081", "counter", "accept")
	nft(t, "add", "rule", "inet", "closing", "through", "reject", "with", "icmpx", "admin-prohibited")
	t.Cleanup(func() { nft(t, "flush", "ruleset") })
	f := open(t, Config{}, network("gtest0", 0), network("gtest1", 1))
	must(t, f.Rebuild())
	state := func(when string) {
		t.Helper()
		for _, table := range []string{"ip filter", "ip6 filter", "inet closing"} {
			got := nft(t, append([]string{"list", "table"}, strings.Fields(table)...)...)
			if strings.Count(got, "comment \""+testTable+" ") != 2 {
				t.Errorf("%s: two accepts are needed in table %s:\n%s", when, table, got)
			}
			if table == "inet closing" && strings.Index(got, testTable) > strings.Index(got, "reject") {
				t.Errorf("%s: they must go before the rejecting rule:\n%s", when, got)
			}
		}
		if got := nft(t, "list", "table", "inet", "open"); strings.Contains(got, testTable) {
			t.Errorf("%s: an accepting chain was changed:\n%s", when, got)
		}
	}
	state("at first")
	must(t, f.Repair())
	state("again")
	for _, iptables := range []string{"iptables-nft", "ip6tables-nft"} { // its listing keeps working, and shows them
		out, err := exec.Command(iptables, "-S", "FORWARD").CombinedOutput()
		if err != nil || strings.Count(string(out), "-m devgroup") != 2 {
			t.Errorf("%s lists %v:\n%s", iptables, err, out)
		}
	}
	nft(t, "flush", "chain", "ip", "filter", "FORWARD")
	must(t, f.Repair())
	state("flushed")
	must(t, f.RemoveNetwork("gtest0"))
	must(t, f.RemoveNetwork("gtest1"))
	must(t, f.Repair())
	for _, table := range []string{"filter", "closing"} {
		if got := nft(t, "list", "ruleset"); strings.Contains(got, "comment \""+testTable) {
			t.Errorf("without networks %s has accepts:\n%s", table, got)
		}
	}
}

// TestBridgesInAGroup: a bridge whose group is the user's keeps it, and gets rules of its own.
func TestBridgesInAGroup(t *testing.T) {
	ip(t, "link", "add", "gtest0", "type", "bridge")
	ip(t, "link", "add", "gtest1", "type", "bridge")
	ip(t, "link", "set", "gtest1", "group", "77")
	nft(t, "add", "table", "ip", "filter")
	nft(t, "add", "chain", "ip", "filter", "FORWARD", "{ type filter hook forward priority 0; policy drop; }")
	t.Cleanup(func() { ip(t, "link", "del", "gtest0"); ip(t, "link", "del", "gtest1"); nft(t, "flush", "ruleset") })
	f := open(t, Config{}, network("gtest0", 0), network("gtest1", 1))
	must(t, f.Rebuild())
	for bridge, group := range map[string]string{"gtest0": "group 6778484", "gtest1": "group 77"} {
		if got := ip(t, "link", "show", "dev", bridge); !strings.Contains(got, group) {
			t.Errorf("bridge %s is not in %s: %s", bridge, group, got)
		}
	}
	got := nft(t, "list", "table", "ip", "filter")
	if strings.Count(got, `"gtest1"`) != 2 || strings.Contains(got, `"gtest0"`) {
		t.Errorf("only the bridge in another group needs rules by name:\n%s", got)
	}
	ip(t, "link", "set", "gtest1", "group", "0")
	must(t, f.Repair())
	if got := nft(t, "list", "table", "ip", "filter"); strings.Contains(got, `"gtest1"`) {
		t.Errorf("rules by name are left:\n%s", got)
	}
	must(t, f.RemoveNetwork("gtest0"))
	must(t, f.Teardown())
	for _, bridge := range []string{"gtest0", "gtest1"} {
		if got := ip(t, "link", "show", "dev", bridge); !strings.Contains(got, "group default") {
			t.Errorf("bridge %s stays in our group: %s", bridge, got)
		}
	}
}

func ip(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestOldIptables(t *testing.T) {
	old := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("iptables-legacy", args...).CombinedOutput(); err != nil {
			t.Fatalf("iptables-legacy %v: %v\n%s", args, err, out)
		}
	}
	f := open(t, Config{}, network("gtest0", 0))
	must(t, f.Rebuild())
	old("-P", "FORWARD", "DROP")
	t.Cleanup(func() { old("-F", "FORWARD"); old("-P", "FORWARD", "ACCEPT") })
	err := f.Repair()
	if err == nil || !strings.Contains(err.Error(), "iptables-legacy -I FORWARD -i gtest0 -j ACCEPT") {
		t.Fatalf("a dropping old table: %v", err)
	}
	old("-I", "FORWARD", "-i", "gtest0", "-j", "ACCEPT")
	old("-I", "FORWARD", "-o", "gtest0", "-j", "ACCEPT")
	if err := f.Repair(); err != nil {
		t.Fatalf("after what the error advised: %v", err)
	}
}

// TestWatching: what others change is put right without anybody asking.
func TestWatching(t *testing.T) {
	nft(t, "add", "table", "ip", "filter")
	nft(t, "add", "chain", "ip", "filter", "FORWARD", "{ type filter hook forward priority 0; policy drop; }")
	t.Cleanup(func() { nft(t, "flush", "ruleset") })
	f := open(t, Config{}, network("gtest0", 0))
	must(t, f.Rebuild())
	must(t, f.Add([]Mapping{web, local, web6, one6}))
	want := ours(t)
	for what, change := range map[string][][]string{
		"the rule set flushed":     {{"flush", "ruleset"}},
		"one of our tables":        {{"delete", "table", "ip6", testTable}},
		"one of our elements":      {{"delete", "element", "ip", testTable, "published", "{ tcp . 8080 }"}},
		"one of our rules":         {{"flush", "chain", "ip", testTable, "forward"}},
		"an element of somebody's": {{"add", "element", "ip", testTable, "published", "{ tcp . 9999 : 172.30.0.9 . 9 }"}},
		"our accepts":              {{"flush", "chain", "ip", "filter", "FORWARD"}},
		"a new dropping chain":     {{"add", "table", "inet", "late"}, {"add", "chain", "inet", "late", "f", "{ type filter hook forward priority 0; policy drop; }"}},
	} {
		if what == "our accepts" {
			nft(t, "add", "table", "ip", "filter")
			nft(t, "add", "chain", "ip", "filter", "FORWARD", "{ type filter hook forward priority 0; policy drop; }")
		}
		for _, c := range change {
			nft(t, c...)
		}
		good := func() bool {
			if ours(t) != want {
				return false
			}
			for _, chain := range []string{"FORWARD", "f"} {
				all := nft(t, "list", "ruleset")
				if i := strings.Index(all, "chain "+chain+" {"); i >= 0 && !strings.Contains(all[i:], "comment \""+testTable) {
					return false
				}
			}
			return true
		}
		for end := time.Now().Add(20 * time.Second); !good(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: not repaired:\n%s", what, nft(t, "list", "ruleset"))
			}
		}
	}
}

// TestUserChain: users' own rules run before ours, and survive what happens to ours.
func TestUserChain(t *testing.T) {
	w := newTown(t)
	w.bridge("gtest0", 0)
	f := open(t, Config{}, network("gtest0", 0))
	for _, proto := range []string{"tcp", "udp"} {
		must(t, f.Add([]Mapping{port(proto, "", 8080, "172.30.0.2:80"), port(proto, "", 8081, "172.30.0.2:80"), port(proto, "", 8080, "[fd00:30::2]:80")}))
	}
	must(t, f.Rebuild())
	w.serve(w.container("gtest0", 0, 2), 80)
	user := testTable + "_user"
	if got := nft(t, "list", "table", "inet", user); !strings.Contains(got, "type filter hook forward priority filter - 10; policy accept;") {
		t.Fatalf("the chain for users: %s", got)
	}
	for _, proto := range []string{"tcp", "udp"} {
		nft(t, "add", "rule", "inet", user, "forward", "ip", "saddr", "192.168.50.2", "meta", "l4proto", proto, "ct", "original", "proto-dst", "8081", "reject", "with", "icmpx", "admin-prohibited")
	}
	nft(t, "add", "rule", "inet", user, "forward", "ip6", "saddr", "fd80::2", "drop")
	want := nft(t, "list", "table", "inet", user)
	questions := []question{
		{"not mentioned", w.lan, "192.168.50.1:8080", "192.168.50.2"},
		{"rejected by the published port", w.lan, "192.168.50.1:8081", prohibited},
		{"another source", w.far, "10.80.0.1:8081", "10.80.0.2"},
		{"dropped by source", w.far, "[fd80::1]:8080", silence},
	}
	check(t, questions)
	must(t, f.Rebuild())
	must(t, f.Repair())
	must(t, f.Teardown())
	must(t, f.Rebuild())
	if got := nft(t, "list", "table", "inet", user); got != want {
		t.Errorf("the user's rules were changed:\n%s\nwere:\n%s", got, want)
	}
	check(t, questions)
	nft(t, "flush", "chain", "inet", user, "forward")
	nft(t, "delete", "table", "inet", user)
	waitFor(t, "the chain to come back", func() bool { return strings.Contains(nft(t, "list", "tables"), "table inet "+user) })
	nft(t, "delete", "table", "inet", user)
	nft(t, "add", "table", "inet", user) // with a policy, and without our help
	nft(t, "add", "chain", "inet", user, "forward", "{ type filter hook forward priority -20; policy drop; }")
	must(t, f.Repair())
	if got := nft(t, "list", "table", "inet", user); strings.Contains(got, "accept") || !strings.Contains(got, "priority -20; policy drop;") {
		t.Errorf("a user's own chain was changed:\n%s", got)
	}
}

// TestBypassed: who is bypassed is named, and only when somebody is.
func TestBypassed(t *testing.T) {
	f := open(t, Config{}, network("gtest0", 0))
	must(t, f.Rebuild())
	is := func(when, who string) {
		t.Helper()
		must(t, f.Repair())
		if got, ok := f.Bypassed(); ok != (who != "") || ok && got != who {
			t.Errorf("%s: bypassed %q, %t; want %q", when, got, ok, who)
		}
	}
	loopback := port("tcp", "127.0.0.1", 8080, "172.30.0.2:80")
	nft(t, "add", "table", "inet", "hostfw")
	t.Cleanup(func() { nft(t, "flush", "ruleset") })
	nft(t, "add", "chain", "inet", "hostfw", "in", "{ type filter hook input priority 0; policy accept; }")
	must(t, f.Add([]Mapping{web}))
	is("an open chain", "")
	nft(t, "add", "rule", "inet", "hostfw", "in", "tcp", "dport", "22", "accept")
	nft(t, "add", "rule", "inet", "hostfw", "in", "drop")
	is("a closing chain", "chain in of nftables table inet hostfw")
	must(t, f.Remove([]Mapping{web}))
	must(t, f.Add([]Mapping{loopback}))
	is("a port of loopback", "")
	must(t, f.Add([]Mapping{web6}))
	is("one of IPv6", "chain in of nftables table inet hostfw")
	nft(t, "delete", "table", "inet", "hostfw")
	is("without a firewall", "")
	for _, c := range [][]string{
		{"add", "table", "ip", "filter"}, {"add", "chain", "ip", "filter", "ufw-before-input"},
		{"add", "chain", "ip", "filter", "INPUT", "{ type filter hook input priority 0; policy drop; }"}, {"add", "rule", "ip", "filter", "INPUT", "jump", "ufw-before-input"},
	} {
		nft(t, c...)
	}
	is("ufw", "ufw")
}

// TestTableOfAnOwner: a table that only its owner may change is left, and the error says what helps.
func TestTableOfAnOwner(t *testing.T) {
	owner := exec.Command("nft", "-i") // it owns the table as long as it lives
	in, err := owner.StdinPipe()
	must(t, err)
	must(t, owner.Start())
	t.Cleanup(func() { _ = in.Close(); _ = owner.Wait() })
	_, err = io.WriteString(in, "add table inet firewalld { flags owner; }\nadd chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy drop; }\n")
	must(t, err)
	waitFor(t, "the owner's chain", func() bool { return strings.Contains(nft(t, "list", "ruleset"), "filter_FORWARD") })
	f := open(t, Config{}, network("gtest0", 0))
	must(t, f.Rebuild())
	if err := f.Repair(); err == nil || !strings.Contains(err.Error(), "--zone=trusted --add-interface=gtest0") {
		t.Errorf("a table of somebody's own: %v", err)
	}
}

// TestAnotherEngine: engines beside each other leave each other's tables alone, also where
// these end by dropping what passes through the host.
func TestAnotherEngine(t *testing.T) {
	f := open(t, Config{NoRouter: true}, network("gtest0", 0))
	must(t, f.Rebuild())
	before := ours(t)
	other, err := New(Config{Table: "other", NoRouter: true})
	must(t, err)
	defer func() { must(t, other.Close(true)) }()
	must(t, other.AddNetwork(network("gtest1", 1)))
	must(t, other.Rebuild())
	must(t, f.Repair())
	if got := ours(t); got != before {
		t.Errorf("another engine changed our rules:\n%s", got)
	}
	if got := nft(t, "list", "table", "ip", "other"); strings.Contains(got, testTable) {
		t.Errorf("we changed another engine's rules:\n%s", got)
	}
}
