package ipam

import (
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
)

func TestGoesRound(t *testing.T) {
	p, err := New(netip.MustParsePrefix("10.1.0.0/29"), netip.Prefix{}, netip.MustParseAddr("10.1.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	want := func(s string) {
		t.Helper()
		if a, err := p.Next(); err != nil || a.String() != s {
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
	if err := p.Take(netip.MustParseAddr("10.1.0.2")); !errdefs.IsAlreadyExists(err) {
		t.Fatalf("taking a taken address: %v", err)
	}
	if err := p.Take(netip.MustParseAddr("10.2.0.2")); !errdefs.IsInvalidArgument(err) {
		t.Fatalf("taking a foreign address: %v", err)
	}
}

func TestRange(t *testing.T) {
	p, err := New(netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.1.7.0/31"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"10.1.7.0", "10.1.7.1"} {
		if a, err := p.Next(); err != nil || a.String() != s {
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
		return a
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
