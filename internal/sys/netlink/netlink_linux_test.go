package netlink

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestLegacyForward(t *testing.T) {
	drops := func(want bool, when string) {
		t.Helper()
		if got, err := LegacyForwardDrops("gtest0"); err != nil || got != want {
			t.Fatalf("%s: drops is %v, %v; want %v", when, got, err, want)
		}
	}
	iptables := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("iptables-legacy", args...).CombinedOutput(); err != nil {
			t.Fatalf("iptables-legacy %v: %v\n%s", args, err, out)
		}
	}
	drops(false, "without old tables")
	if b, _ := os.ReadFile("/proc/thread-self/net/ip_tables_names"); len(b) > 0 {
		t.Fatalf("looking made tables: %s", b)
	}
	iptables("-P", "INPUT", "DROP")
	drops(false, "with another policy")
	iptables("-P", "FORWARD", "DROP")
	drops(true, "with policy drop")
	iptables("-A", "FORWARD", "-i", "gtest0", "-j", "ACCEPT")
	iptables("-A", "FORWARD", "-o", "gtest0", "-p", "tcp", "-m", "tcp", "--dport", "80", "-j", "ACCEPT")
	drops(true, "with one direction accepted and a part of the other")
	iptables("-A", "FORWARD", "-o", "gtest0", "-j", "ACCEPT")
	drops(false, "with both accepted")
	iptables("-D", "FORWARD", "-i", "gtest0", "-j", "ACCEPT")
	iptables("-A", "FORWARD", "-i", "gtest0", "-o", "eth0", "-j", "ACCEPT")
	iptables("-A", "FORWARD", "-i", "gtest0", "-j", "LOG")
	iptables("-A", "FORWARD", "-i", "gtest0", "-s", "10.0.0.0/8", "-j", "ACCEPT")
	iptables("-A", "FORWARD", "-i", "gtest0", "-p", "tcp", "-j", "ACCEPT")
	iptables("-A", "FORWARD", "!", "-i", "gtest0", "-j", "ACCEPT")
	drops(true, "with the other direction to one interface only")
	iptables("-P", "FORWARD", "ACCEPT")
	drops(false, "with policy accept")
}

func TestNamespacesComeAndGo(t *testing.T) {
	home, err := os.Readlink(threadNS)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := NewNamespace(LoopbackUp)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := SetSysctls(ns, map[string]string{"net.ipv4.ip_default_ttl": "65"}); err != nil {
		t.Fatal(err)
	}
	var inside, ttl string
	if err := Do(ns, func() (err error) {
		inside, _ = os.Readlink(threadNS)
		ttl, err = ReadSysctl("net.ipv4.ip_default_ttl")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	outside, _ := ReadSysctl("net.ipv4.ip_default_ttl")
	if inside == home || ttl != "65" || outside == "65" {
		t.Errorf("inside %s (home is %s) the setting is %s, outside %s", inside, home, ttl, outside)
	}
	c, err := Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if l, err := c.Link("lo"); err != nil || !l.Up {
		t.Errorf("loopback: %+v, %v", l, err)
	}
	if _, err := c.Link("nope"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an interface that is not there: %v", err)
	}
	boom := errors.New("boom")
	if _, err := NewNamespace(func() error { return boom }); !errors.Is(err, boom) {
		t.Errorf("a failing set-up: %v", err)
	}
	for range 20 { // every thread is back where it came from
		if now, _ := os.Readlink(threadNS); now != home {
			t.Fatalf("a thread stayed in %s", now)
		}
	}
}

func TestSysctlsAreOfTheNetwork(t *testing.T) {
	for _, name := range []string{"kernel.hostname", "net/../kernel/hostname", "../../etc/passwd", "netx.y"} {
		if err := WriteSysctl(name, "x"); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}
