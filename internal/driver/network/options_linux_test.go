package network

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// released gives containers back and closes the engine.
func (e *engine) released(t *testing.T, all map[string]spec.Sandbox) {
	t.Helper()
	for id, sb := range all {
		if err := e.Release(ctx, id, sb); err != nil {
			t.Error(err)
		}
	}
	e.stop(t)
}

func TestContainersKeptApart(t *testing.T) {
	const passBridged = "net.bridge.bridge-nf-call-iptables"
	was, err := netlink.ReadSysctl(passBridged)
	values := []string{"0", "1"}
	if err != nil {
		values = []string{""} // br_netfilter is not loaded: the kernel bridges without a look
	}
	for _, v := range values {
		t.Run(passBridged+"="+v, func(t *testing.T) {
			if v != "" {
				if err := netlink.WriteSysctl(passBridged, v); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = netlink.WriteSysctl(passBridged, was) })
			}
			keptApart(t)
		})
	}
}

func keptApart(t *testing.T) {
	out := outside(t)
	cfg := testConfig()
	cfg.NoICC = true
	e := start(t, cfg)
	web := e.attach(t, "web", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8080})
	other := e.attach(t, "other")
	l := serve(t, web.NetNS, 80)
	self := web.Endpoints[0].IPv4.Addr().String()
	if got, err := askFor(other.NetNS, self+":80", time.Second/2); err == nil {
		t.Errorf("a neighbour reached the container directly: %q", got)
	}
	for what, c := range map[string]struct {
		from *os.File
		to   string
	}{
		"from the host":                        {nil, self + ":80"},
		"published, from another host":         {out, "10.99.0.1:8080"},
		"published, from a neighbour":          {other.NetNS, "10.99.0.1:8080"},
		"published, from the container itself": {web.NetNS, "10.99.0.1:8080"},
	} {
		if _, err := ask(c.from, c.to); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_ = l.Close()
	e.released(t, map[string]spec.Sandbox{"web": web, "other": other})
}

func TestDefaultHostAddress(t *testing.T) {
	out := outside(t)
	cfg := testConfig()
	cfg.HostIP = netip.MustParseAddr("127.0.0.1")
	e := start(t, cfg)
	web := e.attach(t, "web", spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8080},
		spec.Port{Proto: "tcp", ContainerPort: 80, HostPort: 8081, HostIP: netip.IPv4Unspecified()})
	l := serve(t, web.NetNS, 80)
	for addr, want := range map[string]bool{"127.0.0.1:8080": true, "127.0.0.1:8081": true} {
		if _, err := ask(nil, addr); (err == nil) != want {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if _, err := askFor(out, "10.99.0.1:8080", time.Second/2); err == nil {
		t.Error("what --ip binds to loopback was reached from another host")
	}
	if _, err := ask(out, "10.99.0.1:8081"); err != nil {
		t.Errorf("an address named with -p was overruled: %v", err)
	}
	if got := web.Ports[0].HostIP.String(); got != "127.0.0.1" {
		t.Errorf("shown as published on %s", got)
	}
	if in, err := e.Inspect(ctx, "bridge", ""); err != nil || in.Options["com.docker.network.bridge.host_binding_ipv4"] != "127.0.0.1" {
		t.Errorf("inspect shows %v, %v", in.Options, err)
	}
	_ = l.Close()
	e.released(t, map[string]spec.Sandbox{"web": web})
}

// TestAddressFlags: what the flags say about addresses is what a container gets.
func TestAddressFlags(t *testing.T) {
	prefix := netip.MustParsePrefix
	for name, c := range map[string]struct {
		before []string // an interface that the user made
		change func(*Config)
		addr   string // the first container's
		gw     string
		subnet string
	}{
		"--bip": {
			change: func(c *Config) { c.Address = prefix("10.7.0.5/24") },
			addr:   "10.7.0.1/24", gw: "10.7.0.5", subnet: "10.7.0.0/24",
		},
		"--fixed-cidr with --bip": {
			change: func(c *Config) { c.Address, c.FixedCIDR = prefix("10.7.0.1/16"), prefix("10.7.9.0/28") },
			addr:   "10.7.9.0/16", gw: "10.7.0.1", subnet: "10.7.0.0/16",
		},
		"--fixed-cidr alone": {
			change: func(c *Config) { c.FixedCIDR = prefix("10.8.0.0/24") },
			addr:   "10.8.0.2/24", gw: "10.8.0.1", subnet: "10.8.0.0/24",
		},
		"--default-gateway": {
			change: func(c *Config) {
				c.Address, c.Gateway = prefix("10.7.0.1/24"), netip.MustParseAddr("10.7.0.2")
			},
			addr: "10.7.0.3/24", gw: "10.7.0.2", subnet: "10.7.0.0/24",
		},
		"--bridge": {
			before: []string{"10.6.0.1/24", "10.5.0.1/24"},
			change: func(c *Config) { c.External = true },
			addr:   "10.6.0.2/24", gw: "10.6.0.1", subnet: "10.6.0.0/24",
		},
		"--bridge with --fixed-cidr": {
			before: []string{"10.6.0.1/24", "10.5.0.1/24"},
			change: func(c *Config) { c.External, c.FixedCIDR = true, prefix("10.5.0.64/26") },
			addr:   "10.5.0.64/24", gw: "10.5.0.1", subnet: "10.5.0.0/24",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.PoolSize = 0
			c.change(&cfg)
			if c.before != nil {
				ip(t, "link", "add", cfg.Bridge, "type", "bridge")
				for _, a := range c.before {
					ip(t, "addr", "add", a, "dev", cfg.Bridge)
				}
				t.Cleanup(func() { ip(t, "link", "del", cfg.Bridge) })
			}
			e := start(t, cfg)
			sb := e.attach(t, "c")
			ep := sb.Endpoints[0]
			in, err := e.Inspect(ctx, "bridge", "")
			if err != nil || len(in.IPAM.Config) != 1 || ep.IPv4.String() != c.addr || ep.Gateway4.String() != c.gw || in.IPAM.Config[0].Subnet.String() != c.subnet {
				t.Errorf("got %s by %s in %+v, %v", ep.IPv4, ep.Gateway4, in.IPAM.Config, err)
			}
			var routes string
			if err := netlink.Do(sb.NetNS, func() error { routes = ip(t, "route"); return nil }); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(routes, "default via "+c.gw+" ") {
				t.Errorf("routes inside:\n%s", routes)
			}
			bridge := ep.IPv4.Masked()
			l := serve(t, sb.NetNS, 80)
			if _, err := ask(nil, ep.IPv4.Addr().String()+":80"); err != nil {
				t.Errorf("the host does not reach %s: %v", bridge, err)
			}
			_ = l.Close()
			if c.before == nil {
				e.released(t, map[string]spec.Sandbox{"c": sb})
				return
			}
			if err := e.Release(ctx, "c", sb); err != nil {
				t.Error(err)
			}
			if err := e.Close(ctx); err != nil {
				t.Error(err)
			}
			for _, a := range c.before { // the user's bridge stays as it was
				if got := ip(t, "addr", "show", "dev", cfg.Bridge); !strings.Contains(got, a) {
					t.Errorf("%s was taken from the user's bridge:\n%s", a, got)
				}
			}
		})
	}
}

func TestAddressFlagsRefused(t *testing.T) {
	prefix := netip.MustParsePrefix
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"a bridge that is not there":     {func(c *Config) { c.External = true }, "make it first"},
		"an interface that is no bridge": {func(c *Config) { c.Bridge, c.External = "lo", true }, "not a bridge"},
		"a range outside the subnet":     {func(c *Config) { c.Address, c.FixedCIDR = prefix("10.7.0.1/24"), prefix("10.8.0.0/24") }, "is not part of subnet"},
		"a gateway outside the subnet":   {func(c *Config) { c.Address, c.Gateway = prefix("10.7.0.1/24"), netip.MustParseAddr("10.8.0.1") }, "is not in the bridge's subnet"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			c.change(&cfg)
			cfg.ExecRoot = t.TempDir()
			e, err := tryOpen(cfg)
			if e != nil {
				_ = e.Close(ctx)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
			if strings.Contains(links(t), "gtest0") {
				t.Error("the bridge was left")
			}
		})
	}
}

// TestFlowsFollowThePort: a client that keeps its socket reaches the port's new owner.
func TestFlowsFollowThePort(t *testing.T) {
	out := outside(t)
	e := start(t, testConfig())
	echo := func(sb spec.Sandbox, name string) net.PacketConn {
		var c net.PacketConn
		if err := netlink.Do(sb.NetNS, func() (err error) { c, err = net.ListenPacket("udp4", ":53"); return err }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			buf := make([]byte, 64)
			for {
				_, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = c.WriteTo([]byte(name), from)
			}
		}()
		return c
	}
	var client net.Conn
	if err := netlink.Do(out, func() (err error) { client, err = net.Dial("udp4", "10.99.0.1:5300"); return err }); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	answer := func(patience time.Duration) string {
		buf := make([]byte, 64)
		_ = client.SetDeadline(time.Now().Add(patience))
		_, _ = client.Write([]byte("?"))
		n, _ := client.Read(buf)
		return string(buf[:n])
	}
	port := spec.Port{Proto: "udp", ContainerPort: 53, HostPort: 5300}
	first := e.attach(t, "first", port)
	c := echo(first, "first")
	if got := answer(5 * time.Second); got != "first" {
		t.Fatalf("the first container answered %q", got)
	}
	held, err := os.Open("/proc/self/fd/" + itoa(first.NetNS.Fd())) // its namespace goes on for a while, as a slow exit's
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := e.Release(ctx, "first", first); err != nil {
		t.Fatal(err)
	}
	if got := answer(time.Second / 2); got != "" {
		t.Errorf("a withdrawn port still leads to %q", got)
	}
	second := e.attach(t, "second", port)
	d := echo(second, "second")
	if got := answer(5 * time.Second); got != "second" {
		t.Errorf("the port's new owner is %q", got)
	}
	_, _, _ = c.Close(), d.Close(), held.Close()
	e.released(t, map[string]spec.Sandbox{"second": second})
}

// TestAddressesComeInOrder: the next container has the next address, whatever the pool
// is doing; one given back comes again when all others have had their turn.
func TestAddressesComeInOrder(t *testing.T) {
	cfg := testConfig()
	cfg.Address = netip.MustParsePrefix("10.7.0.1/26")
	e := start(t, cfg)
	want := netip.MustParseAddr("10.7.0.2")
	last := netip.MustParseAddr("10.7.0.62")
	for i := range 150 {
		id := itoa(uintptr(i))
		sb := e.attach(t, id)
		if got := sb.Endpoints[0].IPv4.Addr(); got != want {
			t.Fatalf("container %d got %s, want %s", i, got, want)
		}
		if want == last {
			want = netip.MustParseAddr("10.7.0.1")
		}
		want = want.Next()
		if err := e.Release(ctx, id, sb); err != nil {
			t.Fatal(err)
		}
	}
	e.stop(t)
}
