package network

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/driver/network/bridge"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var ctx = context.Background()

// engine is a networks service over the real drivers, and its folder.
type engine struct {
	*networks.Service
	cfg    Config
	prefix string // of the host's ends of its veths
}

// gantryNet builds the helper process, which the go tool does from its cache.
func gantryNet(t testing.TB) string {
	t.Helper()
	out := filepath.Join(testkit.ShortTempDir(t), "gantry-net")
	cmd := exec.Command("go", "build", "-o", out, "github.com/gantry-engine/gantry/cmd/gantry-net")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building gantry-net: %v\n%s", err, b)
	}
	return out
}

func start(t testing.TB, cfg Config) *engine {
	t.Helper()
	if cfg.ExecRoot == "" {
		cfg.ExecRoot = testkit.ShortTempDir(t)
	}
	cfg.GantryNet = gantryNet(t)
	e := open(t, cfg)
	if err := e.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return e
}

func open(t testing.TB, cfg Config) *engine {
	t.Helper()
	e, err := tryOpen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func tryOpen(cfg Config) (*engine, error) {
	deps, err := New(cfg)
	if err != nil {
		return nil, err
	}
	s, err := networks.New(networks.Config{Seed: cfg.ExecRoot, Created: time.Now()}, deps)
	if err != nil {
		return nil, err
	}
	return &engine{Service: s, cfg: cfg}, s.Open(ctx)
}

func itoa(n uintptr) string { return strconv.FormatUint(uint64(n), 10) }

// stop closes the engine and fails if anything of it is left.
func (e *engine) stop(t testing.TB) {
	t.Helper()
	if err := e.Close(ctx); err != nil {
		t.Error(err)
	}
	wait(t, "veths to go", func() bool { return e.prefix == "" || !strings.Contains(links(t), e.prefix) })
	if l := links(t); strings.Contains(l, e.cfg.Bridge+" ") {
		t.Errorf("bridge left: %s", l)
	}
	out, _ := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if strings.Contains(string(out), e.cfg.Table+" ") {
		t.Errorf("rules left:\n%s", out)
	}
}

func wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("waited in vain for %s; links: %s", what, links(t))
			return
		}
	}
}

func links(t testing.TB) string {
	t.Helper()
	c, err := netlink.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, err := c.Links()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range all {
		b.WriteString(l.Name + " ")
	}
	return b.String()
}

func (e *engine) attach(t testing.TB, id string, ports ...spec.Port) spec.Sandbox {
	t.Helper()
	sb, err := e.Attach(ctx, spec.SandboxRequest{Container: id, Name: "name-" + id, Ports: ports})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Release(ctx, id, sb) })
	e.prefix = sb.Endpoints[0].HostVeth[:6]
	return sb
}

// serve answers each TCP connection on port inside ns with who asked.
// A listening socket keeps its namespace alive: close it before leaks are looked for.
func serve(t testing.TB, ns *os.File, port int) net.Listener {
	t.Helper()
	var l net.Listener
	if err := netlink.Do(ns, func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf(":%d", port))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				fmt.Fprintln(c, host)
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l
}

func dial(ns *os.File, addr string, patience time.Duration) (c net.Conn, err error) {
	do := func() error {
		network := "tcp4"
		if strings.HasPrefix(addr, "[") {
			network = "tcp6"
		}
		c, err = net.DialTimeout(network, addr, patience)
		return err
	}
	if ns == nil {
		return c, do()
	}
	return c, netlink.Do(ns, do)
}

func ask(ns *os.File, addr string) (string, error) { return askFor(ns, addr, 5*time.Second) }

func askFor(ns *os.File, addr string, patience time.Duration) (string, error) {
	c, err := dial(ns, addr, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	return strings.TrimSpace(string(buf[:n])), err
}

// outside is another host on another network of ours.
func outside(t testing.TB) *os.File {
	t.Helper()
	p, err := bridge.Kind{Engine: "outside"}.Default(bridge.Default{Name: "outer0", Address: netip.MustParsePrefix("10.99.0.1/24")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := p.Driver
	if err := b.Open(ctx); err != nil {
		t.Fatal(err)
	}
	a, err := b.Attach(ctx, networks.Join{Interface: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.NetNS.Close(); _ = b.Close(ctx, true) })
	return a.NetNS
}

func testConfig() Config {
	return Config{Bridge: "gtest0", Table: "gantrytest", PoolSize: 4}
}

func TestTraffic(t *testing.T) {
	out := outside(t)
	e := start(t, testConfig())
	web := e.attach(t, "web", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8080},
		spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8081, HostIP: netip.MustParseAddr("127.0.0.1")})
	other := e.attach(t, "other")
	if got := web.Endpoints[0].IPv4.String(); got != "172.17.0.2/16" || web.Endpoints[0].MAC != "02:42:ac:11:00:02" {
		t.Fatalf("first container got %s %s", got, web.Endpoints[0].MAC)
	}
	l80, l81 := serve(t, web.NetNS, 80), serve(t, web.NetNS, 81)
	serve(t, out, 7000)
	self, neighbour := web.Endpoints[0].IPv4.Addr().String(), other.Endpoints[0].IPv4.Addr().String()
	for _, c := range []struct {
		what string
		from *os.File
		to   string
		sees string // "" means that it must not get through
	}{
		{"published, from another host", out, "10.99.0.1:8080", "10.99.0.2"},
		{"published, from the host's loopback", nil, "127.0.0.1:8080", "172.17.0.1"},
		{"published on loopback, from there", nil, "127.0.0.1:8081", "172.17.0.1"},
		{"published on loopback, from another host", out, "10.99.0.1:8081", ""},
		{"published, IPv6 loopback", nil, "[::1]:8080", "172.17.0.1"},
		{"published, from the host's address", nil, "10.99.0.1:8080", "10.99.0.1"},
		{"hairpin to itself", web.NetNS, "10.99.0.1:8080", "172.17.0.1"},
		{"hairpin from a neighbour", other.NetNS, "172.17.0.1:8080", "172.17.0.1"},
		{"neighbour, direct", other.NetNS, self + ":81", neighbour},
		{"not published, from another host", out, self + ":81", ""},
		{"outbound, masqueraded", web.NetNS, "10.99.0.2:7000", "10.99.0.1"},
	} {
		patience := 10 * time.Second
		if c.sees == "" {
			patience = time.Second / 2 // nothing is expected: waiting longer proves no more
		}
		got, err := askFor(c.from, c.to, patience)
		if (err == nil) != (c.sees != "") || c.sees != "" && got != c.sees {
			t.Errorf("%s: %s answered %q, %v; want %q", c.what, c.to, got, err, c.sees)
		}
	}
	_, _ = l80.Close(), l81.Close()
	for id, sb := range map[string]spec.Sandbox{"web": web, "other": other} {
		for range 2 {
			if err := e.Release(ctx, id, sb); err != nil {
				t.Error(err)
			}
		}
	}
	e.stop(t)
}

func TestPortTaken(t *testing.T) {
	e := start(t, testConfig())
	host, err := net.Listen("tcp4", "0.0.0.0:9001")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	a := e.attach(t, "a", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 9000})
	for port, want := range map[uint16]string{
		9000: "Bind for 0.0.0.0:9000 failed: port is already allocated (by container name-a)",
		9001: fmt.Sprintf("failed to bind host port 0.0.0.0:9001/tcp: address already in use: process %d (network.test) has it", os.Getpid()),
	} {
		_, err := e.Attach(ctx, spec.SandboxRequest{Container: "b", Name: "b", Ports: []spec.Port{{Proto: "tcp", ContainerPort: 80}, {Proto: "tcp", ContainerPort: 80, HostPort: port}}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "driver failed programming external connectivity on endpoint b (") {
			t.Errorf("port %d: %v; want %q", port, err, want)
		}
	}
	if l, err := net.Listen("tcp4", "0.0.0.0:9000"); err == nil {
		l.Close()
		t.Error("a program of the host got a published port")
	}
	b := e.attach(t, "b", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 9000, HostPortEnd: 9005}, spec.Port{Proto: "udp", ContainerPort: 53})
	if b.Ports[0].HostPort != 9002 || b.Ports[2].HostPort < 32768 || b.Ports[2].HostPort != b.Ports[3].HostPort {
		t.Errorf("range and ephemeral port: %+v", b.Ports)
	}
	for id, sb := range map[string]spec.Sandbox{"a": a, "b": b} {
		if err := e.Release(ctx, id, sb); err != nil {
			t.Error(err)
		}
	}
	if l, err := net.Listen("tcp4", "0.0.0.0:9000"); err != nil {
		t.Errorf("a released port is not free: %v", err)
	} else {
		l.Close()
	}
	wait(t, "gantry-net, which holds nothing, to end beside a living daemon", func() bool {
		_, err := os.Stat(filepath.Join(e.cfg.ExecRoot, "gantry-net.sock"))
		return os.IsNotExist(err)
	})
	again := e.attach(t, "again", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 9000})
	if err := e.Release(ctx, "again", again); err != nil {
		t.Error(err)
	}
	e.stop(t)
}

func TestRestartKeepsConnections(t *testing.T) {
	out := outside(t)
	e := start(t, testConfig())
	web := e.attach(t, "web", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8080})
	l := serve(t, web.NetNS, 80)
	c, err := dial(out, "10.99.0.1:8080", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	hold, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", web.NetNS.Fd())) // as the container's process does
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
	_ = web.NetNS.Close()
	if _, err := ask(out, "10.99.0.1:8080"); err != nil {
		t.Errorf("with the daemon down: %v", err)
	}
	next := open(t, e.cfg)
	if err := next.Restore(ctx, "web", web, 0); err != nil {
		t.Fatal(err)
	}
	if err := next.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(out, "10.99.0.1:8080"); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("still there\n")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 256)
	n, _ := io.ReadAtLeast(c, buf, len("10.99.0.2\nstill there\n"))
	if got := string(buf[:n]); !strings.Contains(got, "still there") {
		t.Errorf("the open connection broke: %q", got)
	}
	second := next.attach(t, "second")
	if second.Endpoints[0].IPv4 == web.Endpoints[0].IPv4 {
		t.Error("a living container's address was given out again")
	}
	_, _, _ = hold.Close(), l.Close(), c.Close()
	for id, sb := range map[string]spec.Sandbox{"web": web, "second": second} {
		if err := next.Release(ctx, id, sb); err != nil {
			t.Error(err)
		}
	}
	next.stop(t)
}

func TestTwoEngines(t *testing.T) {
	a := start(t, testConfig())
	b := start(t, Config{Bridge: "gtest1", Table: "gantrytest1", PoolSize: 2})
	x := a.attach(t, "x", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8080})
	y := b.attach(t, "y", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8082})
	l := serve(t, x.NetNS, 80)
	if x.Endpoints[0].IPv4.Masked() == y.Endpoints[0].IPv4.Masked() {
		t.Fatal("two engines share a subnet")
	}
	if err := b.Release(ctx, "y", y); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(nil, "127.0.0.1:8080"); err != nil {
		t.Errorf("the first engine's port after the second ended: %v", err)
	}
	_ = l.Close()
	if err := a.Release(ctx, "x", x); err != nil {
		t.Fatal(err)
	}
	a.stop(t)
}

func TestUDPAndNone(t *testing.T) {
	out := outside(t)
	e := start(t, testConfig())
	dns := e.attach(t, "dns", spec.Port{Proto: "udp", ContainerPort: 53, HostPort: 5300})
	var srv net.PacketConn
	if err := netlink.Do(dns.NetNS, func() (err error) { srv, err = net.ListenPacket("udp4", ":53"); return err }); err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := srv.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = srv.WriteTo(append([]byte("re:"), buf[:n]...), from)
		}
	}()
	for _, c := range []struct {
		from          *os.File
		network, addr string
	}{{out, "udp4", "10.99.0.1:5300"}, {nil, "udp4", "127.0.0.1:5300"}, {nil, "udp6", "[::1]:5300"}} {
		var conn net.Conn
		dial := func() (err error) { conn, err = net.Dial(c.network, c.addr); return err }
		err := error(nil)
		if c.from == nil {
			err = dial()
		} else {
			err = netlink.Do(c.from, dial)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = conn.Write([]byte("x"))
		buf := make([]byte, 64)
		if n, err := conn.Read(buf); string(buf[:n]) != "re:x" {
			t.Errorf("%s answered %q, %v", c.addr, buf[:n], err)
		}
		_ = conn.Close()
	}
	none, err := e.Attach(ctx, spec.SandboxRequest{Container: "n", Endpoints: []spec.EndpointRequest{{Network: "none"}}, Sysctls: map[string]string{"net.ipv4.ip_default_ttl": "77"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.Do(none.NetNS, func() error {
		if v, err := netlink.ReadSysctl("net.ipv4.ip_default_ttl"); v != "77" {
			t.Errorf("sysctl %q, %v", v, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	_ = srv.Close()
	for id, sb := range map[string]spec.Sandbox{"dns": dns, "n": none} {
		if err := e.Release(ctx, id, sb); err != nil {
			t.Error(err)
		}
	}
	e.stop(t)
}
