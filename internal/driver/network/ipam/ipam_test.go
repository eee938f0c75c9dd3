package ipam

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/spec"
)

func TestGoesRound(t *testing.T) {
	p, err := New(netip.MustParsePrefix("10.1.0.0/29"), netip.Prefix{}, netip.MustParseAddr("10.1.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	want := func(s string) {
		t.Helper()
		if a, err := p.Next(); err != nil || a.Addr().String() != s {
			t.Fatalf("got %v, %v; want %s", a, err, s)
		}
	}
	want("10.1.0.2")
	want("10.1.0.3")
	p.Free(netip.MustParseAddr("10.1.0.2"))
	want("10.1.0.4") // not the one just given back
	want("10.1.0.5")
	want("10.1.0.6")
	want("10.1.0.2")
	if a, err := p.Next(); !errdefs.IsResourceExhausted(err) {
		t.Fatalf("a full network gave %v, %v", a, err)
	}
	if _, err := p.Take(netip.MustParseAddr("10.1.0.2")); !errdefs.IsAlreadyExists(err) {
		t.Fatalf("taking a taken address: %v", err)
	}
	if _, err := p.Take(netip.MustParseAddr("10.2.0.2")); !errdefs.IsInvalidArgument(err) {
		t.Fatalf("taking a foreign address: %v", err)
	}
}

func TestRange(t *testing.T) {
	p, err := New(netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.1.7.0/31"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"10.1.7.0", "10.1.7.1"} {
		if a, err := p.Next(); err != nil || a.Addr().String() != s {
			t.Fatalf("got %v, %v; want %s", a, err, s)
		}
	}
	if _, err := p.Next(); err == nil {
		t.Fatal("an address outside the range was given out")
	}
	if _, err := New(netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.0.0.0/8")); !errdefs.IsInvalidArgument(err) {
		t.Fatalf("a range larger than its subnet: %v", err)
	}
}

func TestReturnLeavesNoGap(t *testing.T) {
	p, err := New(netip.MustParsePrefix("10.1.0.0/29"), netip.MustParsePrefix("10.1.0.4/30"))
	if err != nil {
		t.Fatal(err)
	}
	next := func() netip.Addr {
		t.Helper()
		a, err := p.Next()
		if err != nil {
			t.Fatal(err)
		}
		return a.Addr()
	}
	first, second, third := next(), next(), next()
	p.Return(third)
	p.Return(second)
	if a := next(); a != second {
		t.Fatalf("after the last two came back unused, %s was given out, want %s", a, second)
	}
	if a := next(); a != third { // the range's last: 10.1.0.7 is the broadcast address
		t.Fatalf("then %s, want %s", a, third)
	}
	p.Return(first) // not the last: it is used last, as any other
	p.Return(third)
	if a := next(); a != third {
		t.Fatalf("then %s, want %s", a, third)
	}
}

func TestIPv6(t *testing.T) {
	p, err := New(netip.MustParsePrefix("fd00:1::/64"), netip.Prefix{}, netip.MustParseAddr("fd00:1::1"))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := p.Next(); err != nil || a.String() != "fd00:1::2/64" {
		t.Errorf("the first of a large subnet: %s, %v", a, err)
	}
	if p.Size() != 1<<31-1 {
		t.Errorf("size %d", p.Size())
	}
	small, err := New(netip.MustParsePrefix("fd00:2::/126"), netip.Prefix{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"fd00:2::1/126", "fd00:2::2/126", "fd00:2::3/126"} { // no broadcast
		if a, err := small.Next(); err != nil || a.String() != want {
			t.Errorf("got %s, %v; want %s", a, err, want)
		}
	}
	if _, err := small.Next(); !errdefs.IsResourceExhausted(err) {
		t.Errorf("full: %v", err)
	}
}

func TestPick(t *testing.T) {
	p := netip.MustParsePrefix
	usual := Supplies(nil, "seed")
	for _, c := range []struct {
		used []netip.Prefix
		six  bool
		want string
	}{
		{nil, false, "172.17.0.0/16"},
		{[]netip.Prefix{p("172.17.3.0/24"), p("172.18.0.0/15")}, false, "172.20.0.0/16"},
		{[]netip.Prefix{p("172.16.0.0/12")}, false, "192.168.0.0/20"},
		{[]netip.Prefix{p("172.16.0.0/12"), p("192.168.0.0/18"), p("192.168.70.0/24")}, false, "192.168.80.0/20"},
		{[]netip.Prefix{p("10.0.0.0/8")}, true, usual[len(usual)-1].Base.Addr().String() + "/64"},
	} {
		if got, err := Pick(usual, c.six, c.used); err != nil || got.String() != c.want {
			t.Errorf("with %v in use: %s, %v; want %s", c.used, got, err, c.want)
		}
	}
	if _, err := Pick(usual, false, []netip.Prefix{p("172.16.0.0/12"), p("192.168.0.0/16")}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("nothing left: %v", err)
	}
	if a, b := Supplies(nil, "one"), Supplies(nil, "two"); a[len(a)-1] == b[len(b)-1] {
		t.Error("two engines have the same part of IPv6")
	}
	named := []Supply{{p("10.10.0.0/16"), 24}}
	if got, err := Pick(Supplies(named, ""), false, []netip.Prefix{p("10.10.0.0/24"), p("10.10.1.128/25")}); err != nil || got.String() != "10.10.2.0/24" {
		t.Errorf("of a named pool: %s, %v", got, err)
	}
}

func TestManager(t *testing.T) {
	p := netip.MustParsePrefix
	m := NewManager(Supplies(nil, "x"), func() ([]netip.Prefix, error) { return []netip.Prefix{p("172.17.0.0/16")}, nil })
	one := spec.Network{Name: "one", EnableIPv4: true, EnableIPv6: true}
	space, err := m.Reserve(t.Context(), &one)
	if err != nil || len(one.Pools) != 2 || one.Pools[0].Subnet.String() != "172.18.0.0/16" || one.Pools[0].Gateway.String() != "172.18.0.1" || !one.Pools[0].Chosen || space.V6 == nil {
		t.Fatalf("chosen: %+v, %v", one.Pools, err)
	}
	two := spec.Network{Name: "two", EnableIPv4: true, Pools: []spec.Pool{
		{Subnet: p("10.1.0.0/24"), Range: p("10.1.0.128/25"), Aux: map[string]netip.Addr{"printer": netip.MustParseAddr("10.1.0.1")}}, {Subnet: p("10.2.0.0/30")}}}
	space, err = m.Reserve(t.Context(), &two)
	if err != nil || two.Pools[0].Gateway.String() != "10.1.0.2" || space.V6 != nil || space.V4.Size() != 128+4 {
		t.Fatalf("named: %+v, %v", two.Pools, err)
	}
	if a, err := space.V4.Next(); err != nil || a.String() != "10.1.0.128/24" {
		t.Errorf("the first of the range: %s, %v", a, err)
	}
	if _, err := space.V4.Take(netip.MustParseAddr("10.1.0.1")); !errdefs.IsAlreadyExists(err) {
		t.Errorf("an auxiliary address: %v", err)
	}
	if _, err := space.V4.Take(netip.MustParseAddr("10.3.0.1")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an address elsewhere: %v", err)
	}
	three := spec.Network{Name: "three", EnableIPv4: true, Pools: []spec.Pool{{Subnet: p("10.1.0.0/16")}}}
	if _, err := m.Reserve(t.Context(), &three); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "10.1.0.0/24 of network two") {
		t.Errorf("an overlap: %v", err)
	}
	if err := m.Release(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Reserve(t.Context(), &three); err != nil {
		t.Errorf("given back: %v", err)
	}
}
