package macvlan

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/driver/network/ipvlan"
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

func TestConformance(t *testing.T) {
	networkkind.Suite{
		Column: "macvlan", Kind: kind, Options: map[string]string{"parent": "lan0"},
		Before: func(t *testing.T) { networkkind.Wire(t, "lan0") },
	}.Run(t)
}

func TestPassthruConformance(t *testing.T) {
	networkkind.Suite{
		Column: "macvlan passthru", Kind: kind, Options: map[string]string{"parent": "lan0", "macvlan_mode": "passthru"}, One: true,
		Before: func(t *testing.T) { networkkind.Wire(t, "lan0") },
	}.Run(t)
}

// network makes and opens one, and removes it at the end.
func network(t *testing.T, k networks.Kind, id string, options map[string]string) (networks.Driver, error) {
	t.Helper()
	n := spec.Network{ID: strings.Repeat(id, 64/len(id)), Name: "n" + id, EnableIPv4: true, Options: options, Pools: []spec.Pool{{Subnet: netip.MustParsePrefix("10.78.0.0/24"), Gateway: netip.MustParseAddr("10.78.0.1")}}}
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

func container(t *testing.T, d networks.Driver) networks.Attached {
	t.Helper()
	a, err := d.Attach(ctx, networks.Join{Interface: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.NetNS.Close() })
	return a
}

// TestModes has packets say what each mode is.
func TestModes(t *testing.T) {
	for mode, each := range map[string]bool{"": true, "bridge": true, "private": false, "vepa": false, "passthru": false} {
		t.Run("mode "+mode, func(t *testing.T) {
			far := networkkind.Wire(t, "lan0")
			networkkind.IP(t, far, "addr add 10.78.0.1/24 dev far0")
			d, err := network(t, kind(), "a", map[string]string{"parent": "lan0", "macvlan_mode": mode})
			if err != nil {
				t.Fatal(err)
			}
			a := container(t, d)
			if err := networkkind.Talk(a.NetNS, far, netip.MustParseAddr("10.78.0.1")); err != nil {
				t.Errorf("the gateway outside is not reached: %v", err)
			}
			if err := networkkind.Talk(far, a.NetNS, a.Endpoint.IPv4.Addr()); err != nil {
				t.Errorf("the container is not reached from outside: %v", err)
			}
			if mode == "passthru" {
				return
			}
			b := container(t, d)
			if at := b.Endpoint.IPv4.Addr(); each && networkkind.Talk(a.NetNS, b.NetNS, at) != nil || !each && !networkkind.Silent(a.NetNS, b.NetNS, at) {
				t.Errorf("containers reach each other: not %v", each)
			}
		})
	}
}

func TestWhoSharesAParent(t *testing.T) {
	networkkind.Wire(t, "lan0")
	env := lower.Env{Devices: lower.NewDevices("judged")}
	k := Kind{env}
	on := func(mode string) map[string]string { return map[string]string{"parent": "lan0", "macvlan_mode": mode} }
	if _, err := network(t, k, "a", on("bridge")); err != nil {
		t.Fatal(err)
	}
	if _, err := network(t, k, "b", on("private")); err != nil {
		t.Errorf("a second network on the parent: %v", err)
	}
	for what, try := range map[string]func() error{
		"cannot use mode passthru, macvlan network ": func() error { _, err := network(t, k, "c", on("passthru")); return err },
		"is already using parent interface lan0, which the ke": func() error {
			_, err := network(t, ipvlan.Kind{Env: env}, "d", map[string]string{"parent": "lan0"})
			return err
		},
	} {
		if err := try(); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), what) {
			t.Errorf("%q was expected: %v", what, err)
		}
	}
	networkkind.Wire(t, "lan1")
	if _, err := network(t, k, "e", map[string]string{"parent": "lan1", "macvlan_mode": "passthru"}); err != nil {
		t.Fatal(err)
	}
	if _, err := network(t, k, "f", map[string]string{"parent": "lan1"}); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "in mode passthru") {
		t.Errorf("a network beside one in the mode passthru: %v", err)
	}
}

func TestWhatIsWrong(t *testing.T) {
	networkkind.Wire(t, "lan0")
	for _, c := range []struct {
		options map[string]string
		text    string
	}{
		{map[string]string{"parent": "lo"}, "loopback interface is not a valid macvlan parent link"},
		{map[string]string{"parent": "lan0", "macvlan_mode": "bridged"}, "requested macvlan mode 'bridged' is not valid, 'bridge' is the default"},
		{map[string]string{"parent": "nope"}, "parent interface nope does not exist on this host"},
		{map[string]string{"parent": "nope.10"}, "failed to find master interface nope of parent nope.10"},
		{map[string]string{"parent": "lan0.4095"}, "vlan id must be between 1-4094, received: 4095"},
		{map[string]string{"parent": "lan0.x"}, "vlan id must be between 1-4094, received: x"},
		{map[string]string{"parent": "an-interface-too-long"}, "the name of an interface is needed"},
		{map[string]string{"parent": "lan0", "com.docker.network.driver.mtu": "12"}, "a number of bytes is needed"},
	} {
		_, err := network(t, kind(), "a", c.options)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v: %v; want %q", c.options, err, c.text)
		}
	}
}

// TestParentComesBack has somebody take the parent away and put another of its name there.
func TestParentComesBack(t *testing.T) {
	networkkind.Wire(t, "lan0")
	d, err := network(t, kind(), "a", map[string]string{"parent": "lan0"})
	if err != nil {
		t.Fatal(err)
	}
	container(t, d)
	networkkind.IP(t, nil, "link del lan0")
	if _, err := d.Attach(ctx, networks.Join{Interface: "eth0"}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "parent interface lan0 does not exist") {
		t.Errorf("without the parent: %v", err)
	}
	networkkind.Wire(t, "lan0")
	a, b := container(t, d), container(t, d)
	if err := networkkind.Talk(a.NetNS, b.NetNS, b.Endpoint.IPv4.Addr()); err != nil {
		t.Errorf("on the new parent: %v", err)
	}
}

// TestPassthruKeepsTheHostsAddress: the container has the interface with its hardware address, and gives it back.
func TestPassthruKeepsTheHostsAddress(t *testing.T) {
	networkkind.Wire(t, "lan0")
	networkkind.IP(t, nil, "link set lan0 address 02:00:00:00:00:77")
	d, err := network(t, kind(), "a", map[string]string{"parent": "lan0", "macvlan_mode": "passthru"})
	if err != nil {
		t.Fatal(err)
	}
	if a := container(t, d); a.Endpoint.MAC != "02:00:00:00:00:77" {
		t.Errorf("the container has %s", a.Endpoint.MAC)
	}
}

// TestOwnParents are those made for networks: of a VLAN, or leading nowhere. They go with their last network, and are found
// by the next daemon if this one dies.
func TestOwnParents(t *testing.T) {
	for kindOf, c := range map[string]struct{ probe, parent, name string }{
		"vlan":  {"link lan0 type vlan id 99", "lan0.50", "lan0.50"},
		"dummy": {"type dummy", "", "dm-aaaaaaaaaaaa"},
	} {
		t.Run(kindOf, func(t *testing.T) {
			far := networkkind.Wire(t, "lan0")
			networkkind.Needs(t, kindOf, c.probe)
			if kindOf == "vlan" {
				networkkind.IP(t, nil, "link set lan0 down")
				if _, err := network(t, kind(), "c", map[string]string{"parent": c.parent}); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "ip link set lan0 up") {
					t.Errorf("a VLAN of an interface that is down: %v", err)
				}
				networkkind.IP(t, nil, "link set lan0 up")
			}
			k := kind().(Kind)
			options := map[string]string{"parent": c.parent}
			d, err := network(t, k, "a", options)
			if err != nil {
				t.Fatal(err)
			}
			if text := networkkind.IP(t, nil, "-d link show "+c.name); !strings.Contains(text, kindOf) || !strings.Contains(text, "gantry judged network aaaa") {
				t.Errorf("the parent is not as it should be: %s", text)
			}
			a, b := container(t, d), container(t, d)
			if err := networkkind.Talk(a.NetNS, b.NetNS, b.Endpoint.IPv4.Addr()); err != nil {
				t.Errorf("containers do not reach each other: %v", err)
			}
			if kindOf == "dummy" && a.Endpoint.Gateway4.IsValid() {
				t.Error("a network that leads nowhere has a gateway")
			}
			if kindOf == "vlan" {
				networkkind.IP(t, far, "link add link far0 name far0.50 type vlan id 50")
				networkkind.IP(t, far, "link set far0.50 up")
				networkkind.IP(t, far, "addr add 10.78.0.1/24 dev far0.50")
				if err := networkkind.Talk(a.NetNS, far, netip.MustParseAddr("10.78.0.1")); err != nil {
					t.Errorf("the VLAN does not reach the other host: %v", err)
				}
				second, err := network(t, k, "b", options)
				if err != nil {
					t.Fatal(err)
				}
				if err := d.Close(ctx, true); err != nil {
					t.Fatal(err)
				}
				if text := networkkind.IP(t, nil, "-d link show "+c.name); !strings.Contains(text, "gantry judged network bbbb") {
					t.Errorf("the parent does not belong to the network that is left: %s", text)
				}
				d = second
			}
			networkkind.IP(t, nil, "link del "+c.name) // somebody
			container(t, d)                            // makes it anew
			dead := Kind{lower.Env{Devices: lower.NewDevices("judged")}}
			if err := dead.Sweep(ctx, func(string) bool { return true }); err != nil {
				t.Error(err)
			}
			networkkind.IP(t, nil, "link show "+c.name)
			if err := d.Close(ctx, true); err != nil {
				t.Error(err)
			}
			if !networkkind.Wait(func() bool { return !strings.Contains(networkkind.IP(t, nil, "-d link"), kindOf) }) {
				t.Errorf("the parent stays: %s", networkkind.IP(t, nil, "-d link"))
			}
		})
	}
}

// TestForeignParentStays: what the user made is never deleted, nor labelled.
func TestForeignParentStays(t *testing.T) {
	networkkind.Wire(t, "lan0")
	before := networkkind.IP(t, nil, "-d link show lan0")
	d, err := network(t, kind(), "a", map[string]string{"parent": "lan0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(ctx, true); err != nil {
		t.Fatal(err)
	}
	if err := kind().Sweep(ctx, func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if after := networkkind.IP(t, nil, "-d link show lan0"); after != before {
		t.Errorf("the user's interface was changed:\n%s\n%s", before, after)
	}
}

func TestWithoutDummies(t *testing.T) {
	d, err := network(t, kind(), "a", nil)
	if err == nil { // the kernel has them: TestOwnParents
		_ = d.Close(ctx, true)
		return
	}
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "-o parent=") {
		t.Errorf("a kernel without dummy interfaces: %v", err)
	}
}
