package firewall

import (
	"os"
	"testing"
)

// judged is a town whose host has a firewall, and two containers: published ports
// 8080 (TCP, UDP) and 8081, both families.
func newJudged(t *testing.T) (w *town, web *os.File) {
	w = newTown(t)
	w.bridge("gtest0", 0)
	f := open(t, Config{RespectHost: true}, network("gtest0", 0))
	for _, proto := range []string{"tcp", "udp"} {
		for _, p := range []uint16{8080, 8081} {
			must(t, f.Add([]Mapping{port(proto, "", p, "172.30.0.2:80"), port(proto, "", p, "[fd00:30::2]:80")}))
		}
		must(t, f.Add([]Mapping{port(proto, "192.168.50.1", 8082, "172.30.0.2:80"), port(proto, "127.0.0.1", 8083, "172.30.0.2:80")}))
	}
	must(t, f.Rebuild())
	web = w.container("gtest0", 0, 2)
	w.serve(web, 80)
	return w, web
}

func TestRespectNone(t *testing.T) {
	w, web := newJudged(t)
	neighbour := w.container("gtest0", 0, 3)
	check(t, []question{
		{"from the LAN", w.lan, "192.168.50.1:8080", "192.168.50.2"},
		{"from the LAN", w.lan, "[fd50::1]:8080", "fd50::2"},
		{"from afar", w.far, "10.80.0.1:8080", "10.80.0.2"},
		{"from afar", w.far, "[fd80::1]:8080", "fd80::2"},
		{"one address", w.lan, "192.168.50.1:8082", "192.168.50.2"},
		{"another address", w.far, "10.80.0.1:8082", refused},
		{"loopback", w.lan, "192.168.50.1:8083", refused},
		{"loopback", nil, "127.0.0.1:8083", "172.30.0.1"},
		{"the host itself", nil, "192.168.50.1:8080", "192.168.50.1"},
		{"hairpin", neighbour, "172.30.0.1:8080", "172.30.0.1"},
		{"itself", web, "192.168.50.1:8080", "172.30.0.1"},
		{"nobody's port", w.lan, "192.168.50.1:8099", refused},
		{"direct", w.lan, "172.30.0.2:80", silence},
	})
}
