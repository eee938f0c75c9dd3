package links

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"
)

func TestTarget(t *testing.T) {
	x := Target{
		Alias: "my-db", Owner: "web", Name: "db1", Hostname: "0123456789ab", Address: netip.MustParseAddr("172.17.0.5"),
		Ports: []network.Port{network.MustParsePort("53/udp"), network.MustParsePort("6001/tcp"), network.MustParsePort("6000/tcp"), network.MustParsePort("6379/tcp")},
		Env:   []string{"PATH=/bin", "HOME=/root", "PASSWORD=a=b", "odd"},
	}
	if got, want := x.Hosts(), "172.17.0.5\tmy-db 0123456789ab db1"; got != want {
		t.Errorf("hosts: %q, want %q", got, want)
	}
	env := x.Environment()
	for _, want := range []string{
		"MY_DB_PORT=tcp://172.17.0.5:6000", "MY_DB_PORT_6000_TCP_START=tcp://172.17.0.5:6000", "MY_DB_PORT_6000_TCP_END=tcp://172.17.0.5:6001", "MY_DB_PORT_6000_TCP_PORT_END=6001",
		"MY_DB_PORT_53_UDP=udp://172.17.0.5:53", "MY_DB_PORT_6379_TCP_ADDR=172.17.0.5", "MY_DB_PORT_6379_TCP_PORT=6379", "MY_DB_PORT_6379_TCP_PROTO=tcp", "MY_DB_NAME=/web/my-db", "MY_DB_ENV_PASSWORD=a=b",
	} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is not in %v", want, env)
		}
	}
	if all := strings.Join(env, " "); strings.Contains(all, "PATH") || strings.Contains(all, "odd") || strings.Contains(all, "6379_TCP_START") {
		t.Errorf("too much: %s", all)
	}
	alone := Target{Alias: "x", Owner: "web", Name: "x", Address: netip.MustParseAddr("10.0.0.2")}
	if got := alone.Environment(); !slices.Equal(got, []string{"X_NAME=/web/x"}) || alone.Hosts() != "10.0.0.2\tx" {
		t.Errorf("without ports: %v, %q", got, alone.Hosts())
	}
}
