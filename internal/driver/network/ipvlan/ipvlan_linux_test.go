package ipvlan

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/driver/network/lower"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/networkkind"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var ctx = context.Background()

func kind() networks.Kind {
	return Kind{lower.Env{Devices: lower.NewDevices("judged"), PoolSize: 4}}
}

// has is set once the kernel is known to have ipvlan interfaces.
var has bool

func wire(t *testing.T) {
	networkkind.Wire(t, "lan0")
	networkkind.Needs(t, "ipvlan", "link lan0 type ipvlan")
	has = true
}

func TestConformance(t *testing.T) {
	t.Run("the kernel", func(t *testing.T) { wire(t) })
	if !has {
		t.Skip("without ipvlan interfaces in the kernel")
	}
	for column, mode := range map[string]string{"ipvlan l2": "", "ipvlan l3": "l3"} {
		t.Run(mode, func(t *testing.T) {
			networkkind.Suite{Column: column, Kind: kind, Options: map[string]string{"parent": "lan0", "ipvlan_mode": mode}, Before: func(t *testing.T) { wire(t) }}.Run(t)
		})
	}
}

// network makes and opens one, and removes it at the end.
func network(t *testing.T, k networks.Kind, id string, options map[string]string) (networks.Driver, error) {
	t.Helper()
	n := spec.Network{ID: strings.Repeat(id, 64), Name: "n" + id, EnableIPv4: true, Options: options, Pools: []spec.Pool{{Subnet: netip.MustParsePrefix("10.79.0.0/24"), Gateway: netip.MustParseAddr("10.79.0.1")}}}
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
		return nil, err
	}
	t.Cleanup(func() { _ = d.Close(ctx, true) })
	return d, d.Ready(ctx)
}

// TestModesAndFlags has packets say what each is: who reaches whom, and what is outside.
func TestModesAndFlags(t *testing.T) {
	for _, c := range []struct {
		mode, flag string
		each       bool
	}{
		{"l2", "bridge", true}, {"l2", "private", false}, {"l2", "vepa", false}, {"l3", "", true}, {"l3", "private", false}, {"l3s", "bridge", true},
	} {
		t.Run(c.mode+" "+c.flag, func(t *testing.T) {
			wire(t)
			far := networkkind.Wire(t, "lan1")
			networkkind.IP(t, far, "addr add 10.79.0.1/24 dev far0")
			d, err := network(t, kind(), "a", map[string]string{"parent": "lan1", "ipvlan_mode": c.mode, "ipvlan_flag": c.flag})
			if err != nil {
				t.Fatal(err)
			}
			var all []networks.Attached
			for range 2 {
				a, err := d.Attach(ctx, networks.Join{Interface: "eth0"})
				if err != nil {
					t.Fatal(err)
				}
				defer a.NetNS.Close()
				all = append(all, a)
			}
			at := all[1].Endpoint.IPv4.Addr()
			if c.mode == "l2" {
				if err := networkkind.Talk(all[0].NetNS, far, netip.MustParseAddr("10.79.0.1")); err != nil {
					t.Errorf("what is outside is not reached: %v", err)
				}
			} else if g := all[0].Endpoint.Gateway4; g != netip.IPv4Unspecified() {
				t.Errorf("the default route leads through %s, not by the interface", g)
			}
			if c.each && networkkind.Talk(all[0].NetNS, all[1].NetNS, at) != nil || !c.each && !networkkind.Silent(all[0].NetNS, all[1].NetNS, at) {
				t.Errorf("containers reach each other: not %v", c.each)
			}
		})
	}
}

func TestWhatIsWrong(t *testing.T) {
	networkkind.Wire(t, "lan0")
	for _, c := range []struct {
		options map[string]string
		text    string
	}{
		{map[string]string{"parent": "lo"}, "loopback interface is not a valid ipvlan parent link"},
		{map[string]string{"parent": "lan0", "ipvlan_mode": "l4"}, "requested ipvlan mode 'l4' is not valid, 'l2' is the default"},
		{map[string]string{"parent": "lan0", "ipvlan_flag": "open"}, "requested ipvlan flag 'open' is not valid, 'bridge' is the default"},
		{map[string]string{"parent": "nope"}, "parent interface nope does not exist on this host"},
	} {
		_, err := network(t, kind(), "a", c.options)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v: %v; want %q", c.options, err, c.text)
		}
	}
	k := kind()
	d, err := network(t, k, "a", map[string]string{"parent": "lan0"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := network(t, k, "b", map[string]string{"parent": "lan0"}); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "is already using parent interface lan0") {
		t.Errorf("a second network on the parent: %v", err)
	}
	if _, err := d.Attach(ctx, networks.Join{Interface: "eth0", MAC: []byte{2, 0, 0, 0, 0, 1}}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "do not support custom mac address") {
		t.Errorf("a hardware address: %v", err)
	}
	// A kernel without them says so, and nothing is kept of the address.
	for range 2 {
		a, err := d.Attach(ctx, networks.Join{Interface: "eth0", IPv4: netip.MustParseAddr("10.79.0.5")})
		if err == nil {
			_ = a.NetNS.Close()
			_ = d.Detach(ctx, a.Endpoint)
		} else if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "this kernel has no ipvlan interfaces") {
			t.Errorf("a container: %v", err)
		}
	}
}
