package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var ctx = context.Background()

// config is the default network as a test wants it.
type config struct {
	Default
	MTU, PoolSize int
}

// standard describes the default network.
func standard(t *testing.T, cfg config) *Driver {
	t.Helper()
	cfg.Name = "gtest0"
	p, err := Kind{Engine: "test", MTU: cfg.MTU, PoolSize: cfg.PoolSize}.Default(cfg.Default, ipam.Supplies(nil, ""))
	if err != nil {
		t.Fatal(err)
	}
	return p.Driver.(*Driver)
}

func open(t *testing.T, cfg config) *Driver {
	t.Helper()
	d := standard(t, cfg)
	t.Cleanup(func() {
		if err := d.Close(ctx, true); err != nil {
			t.Error(err)
		}
	})
	if err := d.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if err := d.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWishesOfOneContainer(t *testing.T) {
	d := open(t, config{Default: Default{Address: netip.MustParsePrefix("10.7.0.1/24")}, MTU: 1400, PoolSize: 4})
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	a, err := d.Attach(ctx, networks.Join{Interface: "eth0", IPv4: netip.MustParseAddr("10.7.0.99"), MAC: mac, Sysctls: map[string]string{"net.ipv4.conf.eth0.forwarding": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.NetNS.Close()
	if err := netlink.Do(a.NetNS, func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, _ := i.Addrs()
		if i.HardwareAddr.String() != mac.String() || i.MTU != 1400 || len(addrs) != 1 || addrs[0].String() != "10.7.0.99/24" || i.Flags&net.FlagUp == 0 {
			t.Errorf("inside: %+v %v", i, addrs)
		}
		if v, _ := netlink.ReadSysctl("net.ipv4.conf.eth0.forwarding"); v != "1" {
			t.Errorf("sysctl %q", v)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if a.Endpoint.MAC != mac.String() || a.Endpoint.IPv4.String() != "10.7.0.99/24" || a.Endpoint.Gateway4.String() != "10.7.0.1" {
		t.Errorf("endpoint %+v", a.Endpoint)
	}
	if _, err := d.Attach(ctx, networks.Join{Interface: "eth0", IPv4: netip.MustParseAddr("10.7.0.99")}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("an address twice: %v", err)
	}
	if err := d.Detach(ctx, a.Endpoint); err != nil {
		t.Fatal(err)
	}
	b, err := d.Attach(ctx, networks.Join{Interface: "eth0", IPv4: netip.MustParseAddr("10.7.0.99")})
	if err != nil {
		t.Fatalf("an address given back: %v", err)
	}
	_ = b.NetNS.Close()
}

func TestFailedWishLeavesNoGap(t *testing.T) {
	d := open(t, config{Default: Default{Address: netip.MustParsePrefix("10.7.0.1/24")}})
	for range 3 {
		if _, err := d.Attach(ctx, networks.Join{Interface: "eth0", Sysctls: map[string]string{"net.no.such": "1"}}); err == nil {
			t.Fatal("a setting that is not there was made")
		}
	}
	a, err := d.Attach(ctx, networks.Join{Interface: "eth0"})
	if err != nil || a.Endpoint.IPv4.String() != "10.7.0.2/24" {
		t.Fatalf("after failed attempts: %s, %v", a.Endpoint.IPv4, err)
	}
	_ = a.NetNS.Close()
}

func TestFullNetwork(t *testing.T) {
	d := open(t, config{Default: Default{Address: netip.MustParsePrefix("10.7.0.1/29")}, PoolSize: 8})
	for i := range 5 {
		a, err := d.Attach(ctx, networks.Join{Interface: "eth0"})
		if err != nil {
			t.Fatalf("container %d of 5: %v", i, err)
		}
		defer a.NetNS.Close()
	}
	if _, err := d.Attach(ctx, networks.Join{Interface: "eth0"}); !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "no available IPv4 addresses") {
		t.Errorf("a full network: %v", err)
	}
}

// The kernel refuses the bridge's 1,024th interface. Who starts a container then is told so, nothing stays, and
// when an interface goes, the next container has it.
func TestFullBridge(t *testing.T) {
	defer func(p time.Duration) { fullPatience = p }(fullPatience)
	d := open(t, config{Default: Default{Address: netip.MustParsePrefix("10.7.0.1/16")}})
	first, err := d.Attach(ctx, networks.Join{Interface: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	peers, err := netlink.NewNamespace(netlink.LoopbackUp)
	if err != nil {
		t.Fatal(err)
	}
	defer peers.Close()
	for i := range netlink.BridgePorts - 1 {
		if err := d.dev.conn.AddPair(netlink.Pair{Name: fmt.Sprintf("a%d", i), PeerName: fmt.Sprintf("b%d", i), Bridge: d.dev.index, NS: peers, PeerMAC: net.HardwareAddr{2, 0, 0, 1, byte(i >> 8), byte(i)}, MTU: 1500}); err != nil {
			t.Fatalf("filling the bridge: %d: %v", i, err)
		}
	}
	count := func() (n int) {
		t.Helper()
		links, err := d.dev.conn.Links()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if strings.HasPrefix(l.Name, d.dev.prefix) {
				n++
			}
		}
		return n
	}
	fullPatience = 50 * time.Millisecond
	for _, j := range []networks.Join{{Interface: "eth0"}, {Interface: "eth0", IPv4: netip.MustParseAddr("10.7.9.9")}} {
		_, err := d.Attach(ctx, j)
		if !errors.Is(err, netlink.ErrBridgeFull) || errdefs.Resolve(err) != errdefs.ErrUnknown {
			t.Fatalf("a full bridge: %v, class %v", err, errdefs.Resolve(err))
		}
		for _, want := range []string{"bridge gtest0 is full", "at most 1023 interfaces", "stop some containers", "--network host"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
		if n := count(); n != 1 {
			t.Errorf("%d interfaces of ours, want 1", n)
		}
	}
	fullPatience = 30 * time.Second
	freed := make(chan error, 1)
	go func() { // the container ends while the next one waits
		time.Sleep(100 * time.Millisecond)
		freed <- errors.Join(d.Detach(ctx, first.Endpoint), first.NetNS.Close())
	}()
	next, err := d.Attach(ctx, networks.Join{Interface: "eth0", IPv4: netip.MustParseAddr("10.7.9.9")})
	if err := errors.Join(err, <-freed); err != nil {
		t.Fatalf("when there is room again: %v", err)
	}
	if err := next.NetNS.Close(); err != nil {
		t.Error(err)
	}
	if again, err := d.Attach(ctx, networks.Join{Interface: "eth0"}); err != nil || again.Endpoint.IPv4.String() != "10.7.0.3/16" {
		t.Errorf("the next address %s, %v", again.Endpoint.IPv4, err)
	} else {
		_ = again.NetNS.Close()
	}
}

func TestClosedTwice(t *testing.T) {
	flags := Default{Name: "gtest0", Address: netip.MustParsePrefix("10.7.0.1/24"), Gateway: netip.MustParseAddr("10.8.0.1")}
	if _, err := (Kind{Engine: "test"}).Default(flags, nil); !errdefs.IsInvalidArgument(err) {
		t.Fatalf("a gateway elsewhere: %v", err)
	}
	d := standard(t, config{Default: Default{Address: netip.MustParsePrefix("10.7.0.1/24")}})
	if err := d.Close(ctx, true); err != nil {
		t.Fatalf("before it was opened: %v", err)
	}
	if err := d.Open(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Close(ctx, true); err != nil {
			t.Error(err)
		}
	}
}

// A namespace that something keeps alive (a connection that nobody acknowledges) does not keep its interface on the bridge.
func TestInterfacesOfTheEndedGo(t *testing.T) {
	there := func(d *Driver, name string) bool {
		links, err := d.dev.conn.Links()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if l.Name == name {
				return true
			}
		}
		return false
	}
	d := open(t, config{Default: Default{Address: netip.MustParsePrefix("10.7.0.1/24")}})
	d.sweeper.linger = 50 * time.Millisecond
	for _, what := range []string{"later", "at the end"} {
		a, err := d.Attach(ctx, networks.Join{Interface: "eth0"})
		if err != nil {
			t.Fatal(err)
		}
		defer a.NetNS.Close() // so that it stays
		if err := d.Detach(ctx, a.Endpoint); err != nil {
			t.Fatal(err)
		}
		if what == "at the end" {
			d.sweeper.clear(0)
		}
		for i := 0; there(d, a.Endpoint.HostVeth); i++ {
			if i == 500 {
				t.Fatalf("%s: the interface %s is still there", what, a.Endpoint.HostVeth)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
