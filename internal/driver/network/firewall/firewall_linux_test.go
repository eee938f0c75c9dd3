package firewall

import (
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
)

var update = flag.Bool("update", false, "rewrite the golden rule sets")

func TestMain(m *testing.M) { testkit.Main(m) }

func nft(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func open(t *testing.T, cfg Config) *Firewall {
	t.Helper()
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Teardown(); err != nil {
			t.Error(err)
		}
		_ = f.Close()
		if out := nft(t, "list", "ruleset"); strings.Contains(out, cfg.Table) {
			t.Errorf("left after teardown:\n%s", out)
		}
	})
	return f
}

func config() Config {
	return Config{Table: "gantrytest", Bridge: "gtest0", Subnet: netip.MustParsePrefix("172.30.0.0/16"), Masquerade: true, ICC: true}
}

var web = Mapping{"tcp", netip.IPv4Unspecified(), 8080, netip.MustParseAddrPort("172.30.0.2:80")}
var local = Mapping{"udp", netip.MustParseAddr("127.0.0.1"), 5353, netip.MustParseAddrPort("172.30.0.3:53")}

func TestGolden(t *testing.T) {
	locked := config()
	locked.ICC, locked.Masquerade, locked.NoRouter = false, false, true
	for name, c := range map[string]struct {
		cfg   Config
		ports []Mapping
	}{"default": {config(), nil}, "ports": {config(), []Mapping{web, local}}, "locked": {locked, nil}} {
		t.Run(name, func(t *testing.T) {
			f := open(t, c.cfg)
			for range 2 { // the second time it replaces a table that is there
				if err := f.Rebuild(c.ports); err != nil {
					t.Fatal(err)
				}
			}
			golden(t, name, nft(t, "list", "table", "ip", "gantrytest"))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name + ".nft"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("rule set differs from %s (%v); got:\n%s", path, err, got)
	}
}

func TestAddAndRemoveArriveAtTheSame(t *testing.T) {
	f := open(t, config())
	if err := f.Add([]Mapping{web}); err == nil {
		t.Fatal("a port was added to a table that is not there")
	}
	if err := f.Rebuild(nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Add([]Mapping{web, local}); err != nil {
		t.Fatal(err)
	}
	golden(t, "ports", nft(t, "list", "table", "ip", "gantrytest"))
	if err := f.Remove([]Mapping{web, local}); err != nil {
		t.Fatal(err)
	}
	golden(t, "default", nft(t, "list", "table", "ip", "gantrytest"))
}

func TestForeignChains(t *testing.T) {
	nft(t, "add", "table", "ip", "filter")
	nft(t, "add", "chain", "ip", "filter", "FORWARD", "{ type filter hook forward priority 0; policy drop; }")
	nft(t, "add", "table", "inet", "open")
	nft(t, "add", "chain", "inet", "open", "through", "{ type filter hook forward priority 0; policy accept; }")
	t.Cleanup(func() { nft(t, "delete", "table", "ip", "filter"); nft(t, "delete", "table", "inet", "open") })
	f := open(t, config())
	if err := f.Rebuild(nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Repair(); err != nil {
			t.Fatal(err)
		}
		if got := nft(t, "list", "table", "ip", "filter"); strings.Count(got, `"gtest0"`) != 2 {
			t.Fatalf("two accepts are needed in the dropping chain:\n%s", got)
		}
		if got := nft(t, "list", "table", "inet", "open"); strings.Contains(got, "gtest0") {
			t.Fatalf("an accepting chain was changed:\n%s", got)
		}
	}
	nft(t, "flush", "chain", "ip", "filter", "FORWARD")
	if err := f.Repair(); err != nil {
		t.Fatal(err)
	}
	if got := nft(t, "list", "table", "ip", "filter"); strings.Count(got, `"gtest0"`) != 2 {
		t.Fatalf("not repaired:\n%s", got)
	}
}

func TestOldIptables(t *testing.T) {
	old := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("iptables-legacy", args...).CombinedOutput(); err != nil {
			t.Fatalf("iptables-legacy %v: %v\n%s", args, err, out)
		}
	}
	f := open(t, config())
	if err := f.Rebuild(nil); err != nil {
		t.Fatal(err)
	}
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
