package remote

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/driver/network/plugin"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/testkit/networkkind"
)

var ctx = context.Background()

func TestConformance(t *testing.T) {
	var f *fake
	var state string
	networkkind.Suite{
		Column: "plugin",
		Kind:   func() networks.Kind { return f.finder(state).Kind("weaver") },
		Before: func(t *testing.T) {
			f, state = newFake(t), t.TempDir()
			t.Cleanup(func() {
				if !networkkind.Wait(func() bool { return f.left() == "0 networks, 0 endpoints, 0 pools, 0 addresses" }) {
					t.Errorf("the plugin still has %s", f.left())
				}
				if notes, _ := filepath.Glob(filepath.Join(state, "*")); len(notes) > 0 {
					t.Errorf("notes are left: %v", notes)
				}
			})
		},
	}.Run(t)
}

const id = "abcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcd"

// open makes a network of the plugin's.
func open(t *testing.T, f *Finder, recorded bool) (networks.Driver, error) {
	t.Helper()
	n := spec.Network{ID: id, Name: "net", Driver: "weaver", EnableIPv4: true, Recorded: recorded, Pools: []spec.Pool{{Subnet: netip.MustParsePrefix("10.77.0.0/24"), Gateway: netip.MustParseAddr("10.77.0.1")}}}
	k := f.Kind("weaver")
	if err := k.Settle(&n); err != nil {
		return nil, err
	}
	space, err := ipam.NewSpace(n.Pools)
	if err != nil {
		t.Fatal(err)
	}
	d, err := k.New(n, networks.Space{V4: space})
	if err != nil {
		return nil, err
	}
	if err := d.Open(ctx); err != nil {
		return nil, errors.Join(err, d.Close(ctx, true))
	}
	return d, d.Ready(ctx)
}

// TestLies has the plugin answer what it should not. The container is refused, the error names the plugin, nothing stays.
func TestLies(t *testing.T) {
	for _, c := range []struct {
		method string
		says   any
		text   string
	}{
		{"Plugin.Activate", object{"Implements": []string{"VolumeDriver"}}, "does not implement NetworkDriver, it implements VolumeDriver"},
		{"Plugin.Activate", "hello", "the answer is not JSON"},
		{"NetworkDriver.GetCapabilities", object{"Scope": "global"}, "those of a whole cluster"},
		{"NetworkDriver.GetCapabilities", object{"Scope": "galaxy"}, `scope "galaxy", local or global is needed`},
		{"NetworkDriver.CreateNetwork", object{"Err": "no room"}, "plugin weaver: NetworkDriver.CreateNetwork: no room"},
		{"NetworkDriver.CreateNetwork", strings.Repeat("x", 100<<10), "the answer is larger than 65536 bytes"},
		{"NetworkDriver.CreateNetwork", "404", "the plugin does not know this method"},
		{"NetworkDriver.CreateEndpoint", object{"Interface": object{"Address": "10.9.9.9/24"}}, "Cannot be modified with 10.9.9.9/24"},
		{"NetworkDriver.CreateEndpoint", object{"Interface": object{"AddressIPv6": "10.9.9.9/24"}}, "is no IPv6 address with a prefix length"},
		{"NetworkDriver.CreateEndpoint", object{"Interface": object{"MacAddress": "zz"}}, "is no hardware address"},
		{"NetworkDriver.CreateEndpoint", object{"Interface": 7}, "the answer is not of the protocol"},
		{"NetworkDriver.Join", object{"InterfaceName": object{"SrcName": "nope", "DstPrefix": "eth"}}, "interface nope, which is to be the container's, does not exist"},
		{"NetworkDriver.Join", object{"InterfaceName": object{"SrcName": "../../etc", "DstPrefix": "eth"}}, "cannot be an interface's name"},
		{"NetworkDriver.Join", object{"InterfaceName": object{"SrcName": "c", "DstPrefix": "a/b"}}, "cannot be the beginning of an interface's name"},
		{"NetworkDriver.Join", object{"Gateway": "fd00::1"}, "is no address of its family"},
		{"NetworkDriver.Join", object{"StaticRoutes": []object{{"Destination": "x"}}}, "a subnet is needed"},
		{"NetworkDriver.Join", object{"StaticRoutes": []object{{"Destination": "10.1.0.0/16", "RouteType": 3}}}, "0 or 1 is needed"},
		{"NetworkDriver.Join", object{"Err": "tired"}, "plugin weaver: NetworkDriver.Join: tired"},
	} {
		t.Run(c.method, func(t *testing.T) {
			f := newFake(t)
			f.lie(c.method, c.says)
			d, err := open(t, f.finder(t.TempDir()), false)
			if err == nil {
				defer func() { _ = d.Close(ctx, true) }()
				var a networks.Attached
				if a, err = d.Attach(ctx, networks.Join{Interface: "eth0"}); err == nil {
					_ = a.NetNS.Close()
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), "weaver") {
				t.Errorf("%v; want %q", err, c.text)
			}
			if f.left() != "0 networks, 0 endpoints, 0 pools, 0 addresses" && f.left() != "1 networks, 0 endpoints, 0 pools, 0 addresses" {
				t.Errorf("the plugin still has %s", f.left())
			}
		})
	}
}

// TestHanging has a plugin that hears and does not answer, and neighbours that go on.
func TestHanging(t *testing.T) {
	f := newFake(t)
	finder := NewFinder(plugin.Folders{Sockets: []string{f.dir}}, plugin.Bounds{Call: 300 * time.Millisecond, Connect: time.Second, Answer: 64 << 10}, t.TempDir())
	d, err := open(t, finder, false)
	if err != nil {
		t.Fatal(err)
	}
	f.hang("NetworkDriver.Join", true)
	if _, err := d.Attach(ctx, networks.Join{Interface: "eth0", IPv4: netip.MustParseAddr("10.77.0.5")}); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "plugin weaver: NetworkDriver.Join: no answer within") {
		t.Errorf("a plugin that hangs: %v", err)
	}
	f.hang("NetworkDriver.Join", false)
	a, err := d.Attach(ctx, networks.Join{Interface: "eth0", IPv4: netip.MustParseAddr("10.77.0.5")})
	if err != nil {
		t.Fatalf("after it hung: %v", err)
	}
	// The daemon ends and comes back while the plugin hangs: nothing waits for it.
	for _, m := range []string{"Plugin.Activate", "NetworkDriver.CreateNetwork", "NetworkDriver.DeleteEndpoint"} {
		f.hang(m, true)
	}
	if err := d.Close(ctx, false); err != nil {
		t.Fatal(err)
	}
	if d, err = open(t, finder, true); err != nil {
		t.Fatalf("a recorded network beside a plugin that hangs: %v", err)
	}
	_ = a.NetNS.Close()
	if err := d.Detach(ctx, a.Endpoint); !errdefs.IsUnavailable(err) {
		t.Errorf("an endpoint's end that the plugin does not hear: %v", err)
	}
	for _, m := range []string{"Plugin.Activate", "NetworkDriver.CreateNetwork", "NetworkDriver.DeleteEndpoint"} {
		f.hang(m, false)
	}
	finder.work.Wait()
	next, err := open(t, finder, true) // tries again
	if err != nil {
		t.Fatal(err)
	}
	finder.work.Wait()
	if err := next.Close(ctx, true); err != nil {
		t.Error(err)
	}
	if f.left() != "0 networks, 0 endpoints, 0 pools, 0 addresses" {
		t.Errorf("the plugin still has %s", f.left())
	}
}

// TestLateAndMissing: a plugin that does not listen yet is waited for, one that is not there is not.
func TestLateAndMissing(t *testing.T) {
	f := newFake(t)
	finder := f.finder(t.TempDir())
	if err := finder.Kind("nobody").Settle(&spec.Network{ID: id}); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), `plugin "nobody" not found`) {
		t.Errorf("a plugin that is not there: %v", err)
	}
	if err := finder.Kind("../etc").Settle(&spec.Network{ID: id}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a name that is none: %v", err)
	}
	_ = f.server.Close() // its socket stays
	done := make(chan error)
	go func() { done <- finder.Kind("weaver").Settle(&spec.Network{ID: id}) }()
	f.listen()
	if err := <-done; err != nil {
		t.Errorf("a plugin that comes late: %v", err)
	}
}

// TestJoin is what a plugin may say of a container's interface.
func TestJoin(t *testing.T) {
	f := newFake(t)
	d, err := open(t, f.finder(t.TempDir()), false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close(ctx, true) }()
	networkkind.IP(t, nil, "link add mine type veth peer name other")
	f.lie("NetworkDriver.Join", object{
		"InterfaceName": object{"SrcName": "mine", "DstPrefix": "weave"},
		"StaticRoutes":  []object{{"Destination": "10.1.0.0/16", "RouteType": 1}, {"Destination": "10.2.0.0/16", "RouteType": 0, "NextHop": "10.77.0.9"}}, "DisableGatewayService": true,
	})
	a, err := d.Attach(ctx, networks.Join{Interface: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.NetNS.Close()
	if a.Endpoint.Interface != "weave0" || a.Endpoint.Gateway4.IsValid() {
		t.Errorf("the endpoint is %+v", a.Endpoint)
	}
	routes := networkkind.IP(t, a.NetNS, "route")
	for _, want := range []string{"10.1.0.0/16 dev weave0 scope link", "10.2.0.0/16 via 10.77.0.9 dev weave0"} {
		if !strings.Contains(routes, want) {
			t.Errorf("route %q is not there: %s", want, routes)
		}
	}
	if err := d.Unplug(ctx, a.Endpoint, a.NetNS); err != nil {
		t.Fatal(err)
	}
	networkkind.IP(t, nil, "link del mine") // it is the host's again
	if err := d.Detach(ctx, a.Endpoint); err != nil {
		t.Error(err)
	}
}

// TestPorts are published by the plugin, or by nobody.
func TestPorts(t *testing.T) {
	f := newFake(t)
	d, err := open(t, f.finder(t.TempDir()), false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close(ctx, true) }()
	j := networks.Join{Interface: "eth0", Ports: []spec.Port{{Proto: "tcp", ContainerPort: 80, HostPort: 8080}, {Proto: "udp", ContainerPort: 53}}}
	a, err := d.Attach(ctx, j)
	if err != nil {
		t.Fatal(err)
	}
	_ = a.NetNS.Close()
	if len(a.Ports) != 1 || a.Ports[0].HostPort != 8080 || f.ports[a.Endpoint.ID] != " 8080:80 0:53" {
		t.Errorf("published are %+v, the plugin heard %q", a.Ports, f.ports[a.Endpoint.ID])
	}
	if err := d.Detach(ctx, a.Endpoint); err != nil || len(f.ports) > 0 {
		t.Errorf("after the end: %v, %v", f.ports, err)
	}
	f.lie("NetworkDriver.ProgramExternalConnectivity", object{"Err": "port 8080 is taken"})
	if _, err := d.Attach(ctx, j); err == nil || !strings.Contains(err.Error(), "plugin weaver: NetworkDriver.ProgramExternalConnectivity: port 8080 is taken") {
		t.Errorf("a port that is taken: %v", err)
	}
	f.lie("NetworkDriver.ProgramExternalConnectivity", "404")
	b, err := d.Attach(ctx, j)
	if err != nil || len(b.Ports) > 0 {
		t.Fatalf("a plugin that publishes none: %+v, %v", b.Ports, err)
	}
	_ = b.NetNS.Close()
	if err := d.Detach(ctx, b.Endpoint); err != nil {
		t.Error(err)
	}
	if f.left() != "1 networks, 0 endpoints, 0 pools, 0 addresses" {
		t.Errorf("the plugin still has %s", f.left())
	}
}

// TestAddresses is a network whose addresses a plugin manages, through a restart.
func TestAddresses(t *testing.T) {
	f := newFake(t)
	finder := f.finder(t.TempDir())
	n := spec.Network{ID: id, Name: "net", EnableIPv4: true, Pools: nil}
	space, err := finder.IPAM("weaver").Reserve(ctx, &n)
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Pools) != 1 || n.Pools[0].Subnet.String() != "10.88.0.0/16" || n.Pools[0].Gateway.String() != "10.88.0.1" {
		t.Errorf("the pools are %+v", n.Pools)
	}
	one, err := space.V4.Next()
	if err != nil || one.String() != "10.88.0.2/16" {
		t.Errorf("the first address is %s, %v", one, err)
	}
	if _, err := space.V4.Take(one.Addr()); !errdefs.IsAlreadyExists(err) {
		t.Errorf("an address that is taken: %v", err)
	}
	if _, err := space.V4.Take(netip.MustParseAddr("10.99.0.1")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an address of another subnet: %v", err)
	}
	for _, says := range []object{{"Address": "10.88.0.2/16"}, {"Address": "10.99.0.2/16"}, {"Address": "?"}, {}} {
		f.lie("IpamDriver.RequestAddress", says)
		if a, err := space.V4.Next(); err == nil {
			t.Errorf("%v was taken for an address: %s", says, a)
		}
	}
	f.mu.Lock()
	clear(f.lies)
	f.mu.Unlock()
	n.Recorded = true
	calls := len(f.calls)
	again, err := finder.IPAM("weaver").Reserve(ctx, &n)
	if err != nil {
		t.Fatal(err)
	}
	if err := ipam.Relend(again, spec.Endpoint{IPv4: one}); err != nil {
		t.Fatal(err)
	}
	if len(f.calls) != calls {
		t.Errorf("the daemon's start asked the plugin: %v", f.calls[calls:])
	}
	if _, err := again.V4.Take(one.Addr()); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a restored address: %v", err)
	}
	again.V4.Free(one.Addr())
	if err := finder.IPAM("weaver").Release(ctx, n); err != nil {
		t.Error(err)
	}
	if f.left() != "0 networks, 0 endpoints, 0 pools, 0 addresses" {
		t.Errorf("the plugin still has %s", f.left())
	}
	f.lie("IpamDriver.GetCapabilities", object{"RequiresMACAddress": true})
	n = spec.Network{ID: id, EnableIPv4: true}
	if _, err := finder.IPAM("weaver").Reserve(ctx, &n); !errdefs.IsNotImplemented(err) {
		t.Errorf("a plugin that wants hardware addresses: %v", err)
	}
	f.lie("IpamDriver.GetCapabilities", object{})
	for _, says := range []object{{"PoolID": "p", "Pool": "fd00::/64"}, {"PoolID": "", "Pool": "10.88.0.0/16"}, {"Err": "none left"}} {
		f.lie("IpamDriver.RequestPool", says)
		if _, err := finder.IPAM("weaver").Reserve(ctx, &n); err == nil || !strings.Contains(err.Error(), "plugin weaver: IpamDriver.RequestPool") {
			t.Errorf("%v was taken for a pool: %v", says, err)
		}
	}
	if notes, _ := filepath.Glob(filepath.Join(finder.journal.dir, "*")); len(notes) > 0 {
		t.Errorf("notes are left: %v", notes)
	}
}

// TestNeverRecorded: a daemon dies between a plugin's making and its record.
func TestNeverRecorded(t *testing.T) {
	f := newFake(t)
	state := t.TempDir()
	n := spec.Network{ID: id, EnableIPv4: true}
	if _, err := f.finder(state).IPAM("weaver").Reserve(ctx, &n); err != nil {
		t.Fatal(err)
	}
	d, err := open(t, f.finder(state), false)
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.Attach(ctx, networks.Join{Interface: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	_ = a.NetNS.Close()
	next := f.finder(state)
	if err := next.Sweep(ctx, func(string) bool { return true }); err != nil {
		t.Error(err)
	}
	next.work.Wait()
	if !strings.HasPrefix(f.left(), "1 networks, 1 endpoints, 1 pools") {
		t.Errorf("of a known network there is %s", f.left())
	}
	if err := next.Sweep(ctx, func(string) bool { return false }); err != nil {
		t.Error(err)
	}
	next.work.Wait()
	if f.left() != "0 networks, 0 endpoints, 0 pools, 0 addresses" {
		t.Errorf("the plugin still has %s", f.left())
	}
}
