package firewall

import (
	"fmt"
	"net/netip"
	"testing"
)

// crowd is a firewall with many networks and published ports.
func crowd(b *testing.B, networks, ports int) *Firewall {
	b.Helper()
	f := open(b, Config{})
	for n := range networks {
		must(b, f.AddNetwork(network(fmt.Sprintf("gt%d", n), n)))
	}
	all := make([]Mapping, ports)
	for i := range all {
		all[i] = port("tcp", "", uint16(10000+i), fmt.Sprintf("172.30.%d.%d:80", i%networks, 2+i%250))
	}
	must(b, f.Add(all))
	must(b, f.Rebuild())
	return f
}

// BenchmarkPort publishes one port and withdraws it, among others.
func BenchmarkPort(b *testing.B) {
	for _, others := range []int{1, 2000, 20000} {
		b.Run(fmt.Sprintf("%d-others", others), func(b *testing.B) {
			f := crowd(b, 1, others)
			one := []Mapping{port("tcp", "192.0.2.1", 9000, "172.30.0.2:80")}
			for b.Loop() {
				must(b, f.Add(one))
				must(b, f.Remove(one))
			}
		})
	}
}

// BenchmarkNetwork makes the rules of one network and removes them, among others.
func BenchmarkNetwork(b *testing.B) {
	for _, others := range []int{1, 200} {
		b.Run(fmt.Sprintf("%d-others", others), func(b *testing.B) {
			f := crowd(b, others, 2000)
			n := network("gtone", 250)
			n.V4 = []netip.Prefix{netip.MustParsePrefix("172.31.0.0/24")}
			for b.Loop() {
				must(b, f.AddNetwork(n))
				must(b, f.RemoveNetwork(n.Bridge))
			}
		})
	}
}

// BenchmarkRebuild makes everything anew, as after a restart or a foreign flush.
func BenchmarkRebuild(b *testing.B) {
	f := crowd(b, 50, 2000)
	for b.Loop() {
		must(b, f.Rebuild())
	}
}
