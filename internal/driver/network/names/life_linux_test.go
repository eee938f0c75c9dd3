package names

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/nftables"
	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/driver/network/gantrynet"
	"github.com/gantry-engine/gantry/internal/driver/network/publish"
	"github.com/gantry-engine/gantry/internal/netproto"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// process is the PID of this world's gantry-net, or 0.
func (w *world) process() int {
	w.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, path := range all {
		b, _ := os.ReadFile(path)
		if args := strings.Split(string(b), "\x00"); len(args) > 1 && args[1] == filepath.Join(w.root, "gantry-net.sock") {
			var pid int
			_, _ = fmt.Sscanf(path, "/proc/%d/", &pid)
			return pid
		}
	}
	return 0
}

func (w *world) kill() {
	w.t.Helper()
	pid := w.process()
	if pid == 0 {
		w.t.Fatal("no gantry-net runs")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
	await(w.t, "gantry-net to die", func() bool { return w.process() != pid })
}

// A killed gantry-net is replaced, and its sockets are made anew in the containers that run.
func TestGantryNetIsKilled(t *testing.T) {
	w := newWorld(t)
	w.client.Ready(ctx)
	w.start("web", 2, "1", "2")
	w.start("db", 3, "1")
	w.start("late", 4, "2")
	w.kill()
	await(t, "lookups to go on", func() bool { return w.dig("web", "db") == "10.0.49.3" && w.dig("db", "+tcp", "web") == "10.0.49.2" })
	// one whose process is gone is nobody's loss, and tried again while it is known
	w.mu.Lock()
	ns := w.ns["late"]
	w.ns["late"] = nil
	w.mu.Unlock()
	w.kill()
	await(t, "lookups to go on", func() bool { return w.dig("web", "db") == "10.0.49.3" })
	w.client.mu.Lock()
	missing := len(w.client.missing)
	w.client.mu.Unlock()
	if missing != 1 {
		t.Errorf("%d containers are not served, want one", missing)
	}
	late := spec.NameSandbox{Container: "late", Networks: []string{"1"}}
	if err := w.client.Serve(ctx, late, networks.NamePlace{}); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("changed although it cannot be served: %v", err)
	}
	w.mu.Lock()
	w.ns["late"] = ns
	w.mu.Unlock()
	if !w.client.sync(ctx) {
		t.Error("it is not served again")
	}
	w.want("late", "10.0.50.2", "web")
	// one that was never served is found by its process, too
	if err := w.client.Serve(ctx, late, networks.NamePlace{}); err != nil {
		t.Error(err)
	}
	w.want("late", "10.0.49.3", "db")
	if err := w.client.Gone(ctx, "late"); err != nil {
		t.Error(err)
	}
	if err := w.client.Serve(ctx, late, networks.NamePlace{}); err != nil {
		t.Error(err)
	}
	w.want("late", "10.0.49.3", "db")
}

// A real server upstream: dnsmasq on the host's loopback, whose long answers come over TCP.
func TestDnsmasqUpstream(t *testing.T) {
	w := newWorld(t)
	w.start("web", 2, "1")
	args := []string{"-k", "--port=5355", "--listen-address=127.0.0.1", "--bind-interfaces", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=", "--user=root",
		"--address=/far.example/192.0.2.80", "--address=/far.example/2001:db8::80", "--ptr-record=80.2.0.192.in-addr.arpa,far.example", "--mx-host=far.example,mail.example,10", "--local=/example/"}
	for i := range 100 {
		args = append(args, fmt.Sprintf("--host-record=many.example,192.0.2.%d", i+1))
	}
	dnsmasq := exec.Command("dnsmasq", args...)
	var said bytes.Buffer
	dnsmasq.Stderr = &said
	if err := dnsmasq.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dnsmasq.Process.Kill(); _ = dnsmasq.Wait() }()
	sb := spec.NameSandbox{Container: "web", Networks: []string{"1"}, Forward: true, Servers: []spec.NameServer{{Address: netip.MustParseAddrPort("127.0.0.1:5355"), Host: true}}}
	if err := w.client.Serve(ctx, sb, networks.NamePlace{}); err != nil {
		t.Fatal(err)
	}
	await(t, "dnsmasq to answer", func() bool { return w.dig("web", "far.example") == "192.0.2.80" })
	w.want("web", "2001:db8::80", "FAR.example", "AAAA")
	w.want("web", "far.example.", "-x", "192.0.2.80")
	w.want("web", "10 mail.example.", "far.example", "MX")
	w.want("web", "10.0.49.2", "web")
	for _, how := range [][]string{{"+tcp"}, {"+bufsize=4096"}, {"+noedns"}} { // the last is cut, and dig asks over TCP
		if got := w.dig("web", append(how, "many.example")...); len(strings.Fields(got)) != 100 {
			t.Errorf("%v: %d addresses", how, len(strings.Fields(got)))
		}
	}
	if out := w.inside("web", "dig", "@127.0.0.11", "none.example"); !strings.Contains(out, "NXDOMAIN") {
		t.Errorf("a name that nobody has: %s", out)
	}
	if t.Failed() {
		t.Logf("dnsmasq: %s", said.String())
	}
}

// Lookups go on without gantryd. Its successor changes nothing by saying again what is true, and drops what is no more.
func TestGantrydIsKilled(t *testing.T) {
	w := newWorld(t)
	w.start("web", 2, "1")
	w.start("db", 3, "1")
	w.start("gone", 4, "1")
	pid := w.process()
	w.client.net.HangUp() // as a kill does
	w.want("web", "10.0.49.3", "db")
	c := w.daemon()
	for id, address := range map[string]int{"web": 2, "db": 3} {
		c.Restore(spec.NameSandbox{Container: id, Networks: []string{"1"}}, []spec.NameEndpoint{onNetwork(id, "1", address)})
	}
	c.Ready(ctx)
	w.client = c
	w.want("web", "10.0.49.3", "db")
	w.want("web", "", "gone")
	if out := w.inside("gone", "dig", "@127.0.0.11", "+tries=1", "+time=1", "db"); !strings.Contains(out, "no servers could be reached") && !strings.Contains(out, "timed out") {
		t.Errorf("a container that is gone is answered: %s", out)
	}
	if w.process() != pid {
		t.Error("there is another gantry-net")
	}
	w.mu.Lock()
	delete(w.ns, "gone")
	w.mu.Unlock()
}

// Both clients of one daemon find the same process, whoever starts it, and it lives as long as either needs it.
func TestPortsAndNamesShareTheProcess(t *testing.T) {
	w := newWorld(t)
	program := gantrynet.New(w.exe, filepath.Join(w.root, "gantry-net.sock"))
	w.client = New(program, w.find)
	ports := publish.NewClient(program)
	defer ports.Close()
	want := []netproto.Want{{Proto: "tcp", Host: netip.MustParseAddr("127.0.0.1"), Port: 7070}}
	w.client.Ready(ctx)
	var both sync.WaitGroup
	both.Go(func() {
		if _, err := ports.Reserve(ctx, "web", want); err != nil {
			t.Error(err)
		}
	})
	both.Go(func() { w.start("web", 2, "1") })
	both.Wait()
	pid := w.process()
	held := func() bool {
		l, err := net.Listen("tcp4", "127.0.0.1:7070")
		if err == nil {
			_ = l.Close()
		}
		return err != nil
	}
	if !held() {
		t.Fatal("the port is free")
	}
	w.kill()
	await(t, "lookups to go on", func() bool { return w.dig("web", "web") == "10.0.49.2" })
	if err := ports.Sync(ctx); err != nil || !held() {
		t.Errorf("the port is not held again: %v", err)
	}
	if now := w.process(); now == pid || now == 0 {
		t.Errorf("process %d after %d", now, pid)
	}
	if err := ports.Release(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	w.want("web", "10.0.49.2", "web")
}

// A program in the container can have port 53 of every address, and clients of all kinds are led past it.
func TestPort53IsTheContainers(t *testing.T) {
	w := newWorld(t)
	w.start("web", 2, "1")
	var own net.PacketConn
	var ownTCP net.Listener
	if err := netlink.Do(w.ns["web"], func() (err error) {
		if own, err = net.ListenPacket("udp4", "0.0.0.0:53"); err == nil {
			ownTCP, err = net.Listen("tcp4", "0.0.0.0:53")
		}
		return err
	}); err != nil {
		t.Fatalf("port 53 is not free in the container: %v", err)
	}
	defer own.Close()
	defer ownTCP.Close()
	w.want("web", "10.0.49.2", "web")
	w.want("web", "10.0.49.2", "+tcp", "web")
	// a connected socket, which takes answers from the address only that it asked, as musl's and many others' is
	var c net.Conn
	if err := netlink.Do(w.ns["web"], func() (err error) {
		c, err = net.Dial("udp4", "127.0.0.11:53")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw := append([]byte{1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x03web\x00\x00\x01\x00\x01"...)
	if _, err := c.Write(raw); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 512)
	if n, err := c.Read(buf); err != nil || !bytes.Equal(buf[:2], raw[:2]) || n != len(raw)+16 {
		t.Errorf("a connected socket: %d bytes, %v", n, err)
	}
	// others' port 53 is let alone
	if err := netlink.Do(w.ns["web"], func() error {
		c2, err := net.Dial("udp4", "127.0.0.1:53")
		if err != nil {
			return err
		}
		defer c2.Close()
		_, err = c2.Write([]byte("mine"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if n, _, err := own.ReadFrom(buf); err != nil || string(buf[:n]) != "mine" {
		t.Errorf("the container's own server got %q, %v", buf[:n], err)
	}
}

// The redirection does not switch connection tracking on, and works beside somebody's who did.
func TestConnectionTracking(t *testing.T) {
	w := newWorld(t)
	w.start("web", 2, "1")
	w.want("web", "10.0.49.2", "web")
	if n := w.flows("web"); n != 0 {
		t.Errorf("%d lookups are tracked", n)
	}
	rules := `table ip theirs {
		chain out { type nat hook output priority -100; ip daddr 192.0.2.1 dnat to 192.0.2.2; }
		chain in { type filter hook input priority 0; policy drop; ct state established,related accept; ct state new accept; }
	}`
	cmd := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), w.ns["web"].Fd()), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for range 3 {
		w.want("web", "10.0.49.2", "web")
		w.want("web", "10.0.49.2", "+tcp", "web")
	}
	if w.flows("web") == 0 {
		t.Error("nobody tracks connections: the test shows nothing")
	}
}

// flows counts the tracked connections in a container.
func (w *world) flows(id string) (n int) {
	w.t.Helper()
	if err := netlink.Do(w.ns[id], func() error {
		all, err := nl.ConntrackTableList(nl.ConntrackTable, unix.AF_INET)
		n = len(all)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// The rules as nft lists them.
func TestRules(t *testing.T) {
	w := newWorld(t)
	w.start("web", 2, "1")
	want := `table ip gantry_names {
	chain ask {
		type filter hook output priority raw; policy accept;
		ip daddr 127.0.0.11 udp dport 53 udp dport set 1013
		ip daddr 127.0.0.11 tcp dport 53 tcp dport set 1013
	}

	chain answer {
		type filter hook output priority mangle; policy accept;
		ip saddr 127.0.0.11 udp sport 1013 udp sport set 53
		ip saddr 127.0.0.11 tcp sport 1013 tcp sport set 53
	}
}`
	if got := w.inside("web", "nft", "-s", "list", "ruleset"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if err := w.client.Prepare(w.ns["web"]); err != nil {
		t.Error(err)
	}
	if got := w.inside("web", "nft", "-s", "list", "ruleset"); got != want {
		t.Errorf("made twice:\n%s", got)
	}
}

// Where the kernel cannot lead packets elsewhere, the server takes port 53 itself.
func TestWithoutRedirection(t *testing.T) {
	ns, err := netlink.NewNamespace(netlink.LoopbackUp)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	files, err := open(ns, domainPort)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(files)
	for _, f := range files {
		at, err := unix.Getsockname(int(f.Fd()))
		if a, ok := at.(*unix.SockaddrInet4); err != nil || !ok || a.Port != 53 || a.Addr != [4]byte{127, 0, 0, 11} {
			t.Errorf("bound to %+v, %v", at, err)
		}
	}
	if _, err := open(ns, domainPort); !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "127.0.0.11:53") {
		t.Errorf("a port that is taken: %v", err)
	}
	c, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	if tables, err := c.ListTables(); err != nil || len(tables) != 0 {
		t.Errorf("tables %v, %v", tables, err)
	}
}

// What a container's sockets need is taken by one of its programs: the start fails with a word that says so.
func TestTakenPort(t *testing.T) {
	w := newWorld(t)
	w.start("web", 2, "1")
	ns, err := netlink.NewNamespace(netlink.LoopbackUp)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	files, err := open(ns, netproto.ResolverPort)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(files)
	err = w.client.Serve(ctx, spec.NameSandbox{Container: "other"}, networks.NamePlace{NetNS: ns})
	if err == nil || !strings.Contains(err.Error(), "port 1013 of 127.0.0.11 is not free") {
		t.Errorf("%v", err)
	}
	// a container that is served already is served on
	if err := w.client.Serve(ctx, spec.NameSandbox{Container: "web", Networks: []string{"1"}}, networks.NamePlace{NetNS: w.ns["web"]}); err != nil {
		t.Error(err)
	}
	w.want("web", "10.0.49.2", "web")
}

// After Gone nothing holds the container's namespace.
func TestNamespaceIsLetGo(t *testing.T) {
	w := newWorld(t)
	w.start("stays", 3, "1")
	w.start("web", 2, "1")
	at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", w.ns["web"].Fd()))
	if err != nil {
		t.Fatal(err)
	}
	pid := w.process()
	sockets := func() int {
		all, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range all {
			if to, _ := os.Readlink(f); strings.HasPrefix(to, "socket:") || to == at {
				n++
			}
		}
		return n
	}
	before := sockets()
	if err := w.client.Gone(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	if now := sockets(); now != before-2 {
		t.Errorf("gantry-net has %d sockets, had %d", now, before)
	}
	delete(w.ns, "web")
}

func TestSaidTwice(t *testing.T) {
	w := newWorld(t)
	w.start("web", 2, "1")
	for range 2 {
		if err := w.client.Join(ctx, onNetwork("other", "1", 9)); err != nil {
			t.Fatal(err)
		}
	}
	w.want("web", "10.0.49.9", "other")
	for range 2 {
		if err := w.client.Leave(ctx, "other1"); err != nil {
			t.Fatal(err)
		}
		if err := w.client.Gone(ctx, "other"); err != nil {
			t.Fatal(err)
		}
	}
	w.want("web", "", "other")
}

func TestWithoutGantryNet(t *testing.T) {
	dir := t.TempDir()
	c := New(gantrynet.New(dir+"/nothing", dir+"/s"), func(string) (*os.File, error) { return nil, os.ErrNotExist })
	c.Ready(ctx)
	defer c.Close()
	if err := c.Gone(ctx, "web"); err != nil {
		t.Errorf("nothing is known: %v", err)
	}
	if err := c.Join(ctx, onNetwork("web", "1", 2)); err == nil || !strings.Contains(err.Error(), "gantry-net") {
		t.Errorf("%v", err)
	}
	if len(c.endpoints) != 0 {
		t.Error("what was refused is kept")
	}
	short, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("the client hung up"))
	if err := c.Join(short, onNetwork("web", "1", 2)); err == nil {
		t.Error("joined without a gantry-net")
	}
}
