// Package networkkind judges network drivers: one suite for all kinds. What a driver has to do is asserted; what drivers
// may give or not is measured, and compared with the table that users read (table.tsv, docs/network-drivers.md).
package networkkind

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Suite is a kind of network to be judged. Its test runs in a network namespace of its own (testkit.Main).
type Suite struct {
	// Column is the driver's name in the table.
	Column string
	// Kind gives the kind as a daemon's start makes it: each call is a daemon of its own, all of the same engine.
	Kind func() networks.Kind
	// Options are the network's; nil for none.
	Options map[string]string
	// Before prepares the host for a test, and cleans up by t.Cleanup. May be nil.
	Before func(t *testing.T)
	// Own says that the kind manages addresses itself: 10.77.0.0/24 and fd77::/64.
	Own bool
	// One says that only one container at a time can be on a network.
	One bool
}

var ctx = context.Background()

const (
	networkID = "5eed0000c0ffee005eed0000c0ffee005eed0000c0ffee005eed0000c0ffee00"
	subnet4   = "10.77.0.0/24"
	subnet6   = "fd77::/64"
)

// Run judges the kind and compares what it gives with its column of the table.
func (s Suite) Run(t *testing.T) {
	got := Report{}
	for name, test := range map[string]func(*testing.T, *host, Report){
		"life": s.life, "given namespace": s.given, "wishes": s.wishes, "failing": s.failing,
		"restart": s.restart, "killed": s.killed, "exhausted": s.exhausted, "many": s.many,
	} {
		t.Run(name, func(t *testing.T) {
			if s.Before != nil {
				s.Before(t)
			}
			test(t, begin(t, s), got)
		})
	}
	if t.Failed() {
		return
	}
	got.compare(t, s.Column)
}

// host is one daemon's network under test.
type host struct {
	suite  Suite
	kind   networks.Kind
	net    spec.Network
	space  networks.Space
	driver networks.Driver
	before state
}

// begin makes and opens a network, and sees to it that nothing is left at the end.
func begin(t *testing.T, s Suite) *host {
	t.Helper()
	h := &host{suite: s, before: calm(t)}
	h.start(t, false)
	t.Cleanup(func() {
		if h.driver != nil {
			if err := h.driver.Close(ctx, true); err != nil {
				t.Errorf("closing: %v", err)
			}
		}
		h.before.compare(t)
	})
	return h
}

// start is a daemon's start, up to the restoring of containers; recorded says that a former one made the network.
func (h *host) start(t *testing.T, recorded bool) {
	t.Helper()
	h.kind = h.suite.Kind()
	h.net = spec.Network{
		ID: networkID, Name: "judged", Driver: h.suite.Column, Scope: "local", EnableIPv4: true, EnableIPv6: true, Options: h.suite.Options,
		Pools:    []spec.Pool{{Subnet: netip.MustParsePrefix(subnet4)}, {Subnet: netip.MustParsePrefix(subnet6)}},
		Recorded: recorded,
	}
	if h.suite.Own {
		h.net.Pools, h.net.IPAM.Driver = nil, "null"
	}
	if err := h.kind.Settle(&h.net); err != nil {
		t.Fatalf("settling: %v", err)
	}
	var err error
	if !h.suite.Own {
		if h.space, err = manager().Reserve(ctx, &h.net); err != nil {
			t.Fatal(err)
		}
	}
	if h.driver, err = h.kind.New(h.net, h.space); err != nil {
		t.Fatalf("making the driver: %v", err)
	}
	if err := h.driver.Open(ctx); err != nil {
		h.driver = nil
		t.Fatalf("opening: %v", err)
	}
}

func manager() *ipam.Manager {
	return ipam.NewManager(ipam.Supplies(nil, "networkkind"), func() ([]netip.Prefix, error) { return nil, nil })
}

func (h *host) ready(t *testing.T) {
	t.Helper()
	if err := h.driver.Ready(ctx); err != nil {
		t.Fatalf("ready: %v", err)
	}
}

func (h *host) attach(t *testing.T, j networks.Join) networks.Attached {
	t.Helper()
	if j.Interface == "" {
		j.Interface = "eth0"
	}
	a, err := h.driver.Attach(ctx, j)
	if err != nil {
		t.Fatalf("attaching: %v", err)
	}
	if (a.NetNS == nil) != (j.NetNS != nil) {
		t.Fatalf("a namespace came: %v, one was given: %v", a.NetNS != nil, j.NetNS != nil)
	}
	return a
}

func (h *host) detach(t *testing.T, a networks.Attached) {
	t.Helper()
	if a.NetNS != nil {
		_ = a.NetNS.Close()
	}
	if err := h.driver.Detach(ctx, a.Endpoint); err != nil {
		t.Errorf("detaching: %v", err)
	}
}

// life is one network from its making to its end, with two containers that talk.
func (s Suite) life(t *testing.T, h *host, got Report) {
	h.ready(t)
	a := h.attach(t, networks.Join{})
	defer h.detach(t, a)
	checkInside(t, a.NetNS, a.Endpoint, true)
	got["IPv6"] = yes(a.Endpoint.IPv6.IsValid())
	got["published ports"] = yes(a.Endpoint.HostInterface != "")
	if !s.One {
		p := h.attach(t, networks.Join{Ports: []spec.Port{{Proto: "tcp", ContainerPort: 80, HostPort: 18080}}})
		if len(p.Ports) > 0 {
			got["published ports"] = "by the driver"
		}
		h.detach(t, p)
	}
	got["own hardware address"] = yes(a.Endpoint.MAC != "")
	switch g := a.Endpoint.Gateway4; {
	case !g.IsValid():
		got["default route"] = "none"
	case g.IsUnspecified():
		got["default route"] = "interface"
	default:
		got["default route"] = "gateway"
	}
	got["reached by the host"] = yes(talks(promised(s.Column)["reached by the host"] == "yes", nil, a.NetNS, a.Endpoint.IPv4.Addr()))
	if s.One {
		if b, err := h.driver.Attach(ctx, networks.Join{Interface: "eth0"}); !errdefs.IsPermissionDenied(err) {
			t.Errorf("a second container on a network for one: %v", err)
			_ = b.NetNS.Close()
		}
		got["containers reach each other"] = "one only"
		return
	}
	b := h.attach(t, networks.Join{})
	defer h.detach(t, b)
	four, six := talks(reaches(s.Column), a.NetNS, b.NetNS, b.Endpoint.IPv4.Addr()), talks(reaches(s.Column), b.NetNS, a.NetNS, a.Endpoint.IPv6.Addr())
	got["containers reach each other"] = yes(four)
	if four != six {
		t.Errorf("containers reach each other by one family only: IPv4 %v, IPv6 %v", four, six)
	}
	if a.Endpoint.IPv4 == b.Endpoint.IPv4 || a.Endpoint.IPv6 == b.Endpoint.IPv6 || a.Endpoint.MAC == b.Endpoint.MAC && a.Endpoint.MAC != "" {
		t.Errorf("two containers have the same: %+v, %+v", a.Endpoint, b.Endpoint)
	}
}

// given is a running container that comes and goes: its namespace is its own, with routes of another network.
func (s Suite) given(t *testing.T, h *host, got Report) {
	h.ready(t)
	ns, err := netlink.NewNamespace(netlink.LoopbackUp)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	a := h.attach(t, networks.Join{NetNS: ns, Interface: "eth7"})
	if a.Endpoint.Interface != "eth7" {
		t.Errorf("the interface is called %s", a.Endpoint.Interface)
	}
	checkInside(t, ns, a.Endpoint, false)
	if !s.One {
		b := h.attach(t, networks.Join{})
		if reaches(s.Column) && Talk(ns, b.NetNS, b.Endpoint.IPv4.Addr()) != nil {
			t.Error("a container that came later does not reach another")
		}
		h.detach(t, b)
	}
	if err := h.driver.Unplug(ctx, a.Endpoint, ns); err != nil {
		t.Errorf("unplugging: %v", err)
	}
	if left := names(t, ns); !slices.Equal(left, []string{"lo"}) {
		t.Errorf("after leaving the container has %v", left)
	}
	if err := h.driver.Unplug(ctx, a.Endpoint, ns); err != nil {
		t.Errorf("unplugging twice: %v", err)
	}
	h.detach(t, a)
	again := h.attach(t, networks.Join{NetNS: ns, Interface: "eth7", IPv4: a.Endpoint.IPv4.Addr(), IPv6: a.Endpoint.IPv6.Addr()})
	checkInside(t, ns, again.Endpoint, false)
	h.detach(t, again)
	got["connect and disconnect while running"] = "yes"
}

// wishes are what a container may ask for.
func (s Suite) wishes(t *testing.T, h *host, got Report) {
	h.ready(t)
	j := networks.Join{
		Interface: "net0", IPv4: netip.MustParseAddr("10.77.0.42"), IPv6: netip.MustParseAddr("fd77::42"),
		LinkLocal: []netip.Addr{netip.MustParseAddr("169.254.7.7"), netip.MustParseAddr("fe80::7")},
		Sysctls:   map[string]string{"net/ipv4/conf/net0/log_martians": "1"},
	}
	a := h.attach(t, j)
	defer h.detach(t, a)
	if a.Endpoint.IPv4.String() != "10.77.0.42/24" || a.Endpoint.IPv6.String() != "fd77::42/64" {
		t.Errorf("the addresses wanted are not those given: %+v", a.Endpoint)
	}
	checkInside(t, a.NetNS, a.Endpoint, true)
	have := addresses(t, a.NetNS, "net0")
	for _, want := range []string{"169.254.7.7/16", "fe80::7/64"} {
		if !slices.Contains(have, want) {
			t.Errorf("link-local address %s is not there: %v", want, have)
		}
	}
	if err := netlink.Do(a.NetNS, func() error {
		if v, err := netlink.ReadSysctl("net.ipv4.conf.net0.log_martians"); v != "1" {
			t.Errorf("the interface's setting is %q, %v", v, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	got["chosen address"], got["chosen interface name"], got["link-local addresses"], got["interface settings"] = "yes", "yes", "yes", "yes"
	if s.One {
		got["chosen hardware address"] = "yes"
		return
	}
	if _, err := h.driver.Attach(ctx, networks.Join{Interface: "eth0", IPv4: j.IPv4}); !errdefs.IsAlreadyExists(err) && (err == nil || !s.Own) {
		t.Errorf("an address that is taken: %v", err)
	}
	mac := net.HardwareAddr{0x02, 0xaa, 1, 2, 3, 4}
	m, err := h.driver.Attach(ctx, networks.Join{Interface: "eth0", MAC: mac})
	switch {
	case err == nil:
		got["chosen hardware address"] = "yes"
		if m.Endpoint.MAC != mac.String() {
			t.Errorf("hardware address %s, not %s", m.Endpoint.MAC, mac)
		}
		checkInside(t, m.NetNS, m.Endpoint, true)
		h.detach(t, m)
	case errdefs.IsInvalidArgument(err):
		got["chosen hardware address"] = "no"
	default:
		t.Errorf("a chosen hardware address: %v", err)
	}
}

// failing is what a container does not get, and that nothing is left of it: no interface, no address.
func (s Suite) failing(t *testing.T, h *host, _ Report) {
	h.ready(t)
	ns, err := netlink.NewNamespace(netlink.LoopbackUp)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	four := netip.MustParseAddr("10.77.0.9")
	bad := map[string]string{"net/ipv4/conf/eth0/no_such_setting": "1"}
	for _, j := range []networks.Join{
		{Interface: "eth0", IPv4: four, Sysctls: bad},
		{Interface: "eth0", IPv4: four, Sysctls: bad, NetNS: ns},
		{Interface: "eth0", Sysctls: bad, NetNS: ns},
		{Interface: "lo", IPv4: four, NetNS: ns},
	} {
		if a, err := h.driver.Attach(ctx, j); err == nil {
			t.Errorf("%+v was attached", j)
			h.detach(t, a)
		}
		if left := names(t, ns); !slices.Equal(left, []string{"lo"}) {
			t.Errorf("a failed attach left %v in the container", left)
		}
	}
	a := h.attach(t, networks.Join{IPv4: four}) // free again
	h.detach(t, a)
	if _, err := h.driver.Attach(ctx, networks.Join{Interface: "eth0", IPv4: netip.MustParseAddr("192.0.2.1")}); !errdefs.IsInvalidArgument(err) && (err == nil || !s.Own) {
		t.Errorf("an address of another subnet: %v", err)
	}
}

// restart is a daemon that ends and comes back beside a container that lives on.
func (s Suite) restart(t *testing.T, h *host, got Report) {
	h.ready(t)
	a := h.attach(t, networks.Join{})
	defer a.NetNS.Close()
	if err := h.driver.Close(ctx, false); err != nil {
		t.Fatalf("closing: %v", err)
	}
	checkInside(t, a.NetNS, a.Endpoint, true)
	h.start(t, true)
	if err := h.driver.Restore(ctx, a.Endpoint); err != nil {
		t.Fatalf("restoring: %v", err)
	}
	if err := h.driver.Restore(ctx, a.Endpoint); !errdefs.IsAlreadyExists(err) {
		t.Errorf("two containers with one address were restored: %v", err)
	}
	h.ready(t)
	if err := h.kind.Sweep(ctx, func(id string) bool { return id == networkID }); err != nil {
		t.Errorf("sweeping: %v", err)
	}
	checkInside(t, a.NetNS, a.Endpoint, true)
	if !s.One {
		b := h.attach(t, networks.Join{})
		if b.Endpoint.IPv4 == a.Endpoint.IPv4 || b.Endpoint.IPv6 == a.Endpoint.IPv6 {
			t.Errorf("an address in use was given out again: %+v", b.Endpoint)
		}
		if reaches(s.Column) && Talk(b.NetNS, a.NetNS, a.Endpoint.IPv4.Addr()) != nil {
			t.Error("after the restart the container is not reached")
		}
		h.detach(t, b)
	}
	if err := h.driver.Unplug(ctx, a.Endpoint, a.NetNS); err != nil {
		t.Errorf("unplugging what a former daemon plugged: %v", err)
	}
	h.detach(t, a)
	again := h.attach(t, networks.Join{IPv4: a.Endpoint.IPv4.Addr()})
	h.detach(t, again)
	got["lives through a restart of the daemon"] = "yes"
}

// killed is a daemon that dies with a network that nobody has recorded.
func (s Suite) killed(t *testing.T, h *host, _ Report) {
	a := h.attach(t, networks.Join{})
	_ = a.NetNS.Close() // as its process
	dead := h.driver
	h.driver = nil
	next := s.Kind()
	if err := next.Sweep(ctx, func(string) bool { return true }); err != nil {
		t.Errorf("sweeping: %v", err)
	}
	if err := next.Sweep(ctx, func(string) bool { return false }); err != nil {
		t.Errorf("sweeping: %v", err)
	}
	_ = dead.Close(ctx, false) // gives its descriptors back, as death does
}

// exhausted is a network with one address left.
func (s Suite) exhausted(t *testing.T, h *host, _ Report) {
	if s.Own {
		return // it is the kind's own
	}
	if err := h.driver.Close(ctx, true); err != nil {
		t.Fatal(err)
	}
	h.driver = nil
	Wait(func() bool { return look(t).links == h.before.links })
	h.kind = s.Kind()
	h.net.EnableIPv6, h.net.Pools = false, []spec.Pool{{Subnet: netip.MustParsePrefix("10.77.1.0/30"), Gateway: netip.MustParseAddr("10.77.1.1")}}
	var err error
	if h.space, err = manager().Reserve(ctx, &h.net); err != nil {
		t.Fatal(err)
	}
	if h.driver, err = h.kind.New(h.net, h.space); err != nil {
		t.Fatal(err)
	}
	if err := h.driver.Open(ctx); err != nil {
		t.Fatal(err)
	}
	h.ready(t)
	a := h.attach(t, networks.Join{})
	if b, err := h.driver.Attach(ctx, networks.Join{Interface: "eth0"}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("one container too many: %+v, %v", b, err)
	}
	h.detach(t, a)
	h.detach(t, h.attach(t, networks.Join{})) // the address is back
}

// many are containers that come and go at the same time.
func (s Suite) many(t *testing.T, h *host, _ Report) {
	h.ready(t)
	if s.One {
		return
	}
	type result struct {
		a   networks.Attached
		err error
	}
	results := make(chan result)
	const all = 16
	for range all {
		go func() {
			a, err := h.driver.Attach(ctx, networks.Join{Interface: "eth0"})
			results <- result{a, err}
		}()
	}
	seen := map[netip.Prefix]bool{}
	var made []networks.Attached
	for range all {
		r := <-results
		if r.err != nil {
			t.Errorf("attaching beside others: %v", r.err)
			continue
		}
		if seen[r.a.Endpoint.IPv4] || seen[r.a.Endpoint.IPv6] {
			t.Errorf("an address was given out twice: %+v", r.a.Endpoint)
		}
		seen[r.a.Endpoint.IPv4], seen[r.a.Endpoint.IPv6] = true, true
		made = append(made, r.a)
	}
	for _, a := range made {
		checkInside(t, a.NetNS, a.Endpoint, true)
		h.detach(t, a)
	}
}

// checkInside compares what a container has with what it was said to have.
func checkInside(t *testing.T, ns *os.File, ep spec.Endpoint, own bool) {
	t.Helper()
	c, err := netlink.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l, err := c.Link(ep.Interface)
	if err != nil {
		t.Errorf("the container's interface: %v", err)
		return
	}
	if !l.Up || ep.MAC != "" && l.MAC.String() != ep.MAC {
		t.Errorf("the interface is up: %v, its hardware address %s, not %s", l.Up, l.MAC, ep.MAC)
	}
	have := addresses(t, ns, ep.Interface)
	for _, want := range []netip.Prefix{ep.IPv4, ep.IPv6} {
		if want.IsValid() && !slices.Contains(have, want.String()) {
			t.Errorf("address %s is not there: %v", want, have)
		}
	}
	routes := defaults(t, ns)
	for _, g := range []netip.Addr{ep.Gateway4, ep.Gateway6} {
		if want := fmt.Sprintf("%s dev %s", g, ep.Interface); g.IsValid() && slices.Contains(routes, want) != own {
			t.Errorf("default routes %v: there is %q: want %v", routes, want, own)
		}
	}
	if !own && len(routes) > 0 {
		t.Errorf("a given namespace got default routes: %v", routes)
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// reaches tells whether the table promises that containers reach each other.
func reaches(column string) bool { return promised(column)["containers reach each other"] == "yes" }

func names(t *testing.T, ns *os.File) (out []string) {
	t.Helper()
	c, err := netlink.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, err := c.Links()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if !isFallback(l.Name) {
			out = append(out, l.Name)
		}
	}
	slices.Sort(out)
	return out
}

// isFallback tells of the interfaces that tunnel modules put into every namespace.
func isFallback(name string) bool {
	return slices.Contains([]string{"tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"}, name)
}

var errNoAnswer = errors.New("no answer")

func addresses(t *testing.T, ns *os.File, name string) (out []string) {
	t.Helper()
	if err := netlink.Do(ns, func() error {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		all, err := i.Addrs()
		for _, a := range all {
			out = append(out, strings.ToLower(a.String()))
		}
		return err
	}); err != nil {
		t.Errorf("looking for addresses of %s: %v", name, err)
	}
	return out
}
