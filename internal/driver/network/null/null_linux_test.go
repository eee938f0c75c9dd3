package null

import (
	"context"
	"net"
	"os"
	"testing"

	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestNothingButLoopback(t *testing.T) {
	ctx := context.Background()
	for _, size := range []int{0, 4} {
		d := New(size)
		if err := d.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		var seen []os.FileInfo
		for range 3 {
			a, err := d.Attach(ctx, networks.Join{Sysctls: map[string]string{"net.ipv4.ip_default_ttl": "70"}})
			if err != nil {
				t.Fatal(err)
			}
			defer a.NetNS.Close()
			if err := netlink.Do(a.NetNS, func() error {
				all, err := net.Interfaces()
				if err != nil || len(all) != 1 || all[0].Name != "lo" || all[0].Flags&net.FlagUp == 0 {
					t.Errorf("interfaces %+v, %v", all, err)
				}
				if v, err := netlink.ReadSysctl("net.ipv4.ip_default_ttl"); v != "70" {
					t.Errorf("sysctl %q, %v", v, err)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			fi, err := a.NetNS.Stat()
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range seen {
				if os.SameFile(s, fi) {
					t.Error("two containers share a namespace")
				}
			}
			seen = append(seen, fi)
		}
		if _, err := d.Attach(ctx, networks.Join{Sysctls: map[string]string{"net.no.such": "1"}}); err == nil {
			t.Error("a setting that is not there was made")
		}
		if err := d.Close(ctx, true); err != nil {
			t.Error(err)
		}
	}
}
