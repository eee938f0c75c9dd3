package dns

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/driver/network/gantrynet"
	"github.com/gantry-engine/gantry/internal/driver/network/names"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// container has our DNS server in a namespace, over a real gantry-net.
func container(t testing.TB) *os.File {
	t.Helper()
	dir := testkit.ShortTempDir(t)
	exe := filepath.Join(os.Getenv("GANTRY_BIN"), "gantry-net")
	if os.Getenv("GANTRY_BIN") == "" {
		exe = filepath.Join(dir, "gantry-net")
		if out, err := exec.Command("go", "build", "-o", exe, "github.com/gantry-engine/gantry/cmd/gantry-net").CombinedOutput(); err != nil {
			t.Fatalf("building gantry-net: %v\n%s", err, out)
		}
	}
	ns, err := netlink.NewNamespace(netlink.LoopbackUp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	ctx := context.Background()
	c := names.New(gantrynet.New(exe, filepath.Join(dir, "s")), func(string) (*os.File, error) { return nil, os.ErrNotExist })
	t.Cleanup(func() { _ = errors.Join(c.Gone(ctx, "web"), c.Close()) })
	if err := c.Serve(ctx, spec.NameSandbox{Container: "web", Networks: []string{"n"}}, networks.NamePlace{NetNS: ns}); err != nil {
		t.Fatal(err)
	}
	if err := c.Join(ctx, spec.NameEndpoint{ID: "e", Network: "n", NetworkName: "net", Container: "web", Names: []string{"web"}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}); err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestLoad(t *testing.T) {
	ns := container(t)
	rate, err := Rate(ns, "web", 200*time.Millisecond)
	if err != nil || rate < 100 {
		t.Errorf("%.0f answers a second, %v", rate, err)
	}
	times, err := Paced(ns, "web.net", 1000, 200*time.Millisecond)
	if err != nil || len(times) < 100 || times[0] <= 0 {
		t.Errorf("%d answers, %v", len(times), err)
	}
	if _, err := Rate(ns, "nobody", 50*time.Millisecond); !errors.Is(err, errNotAnswered) {
		t.Errorf("a name that nobody has: %v", err)
	}
	if _, err := Paced(ns, "nobody", 1000, 50*time.Millisecond); !errors.Is(err, errNotAnswered) {
		t.Errorf("a name that nobody has: %v", err)
	}
	if Percentile(times, 50) > Percentile(times, 99) || Percentile(nil, 99) != 0 {
		t.Error("percentiles")
	}
}

func BenchmarkLoad(b *testing.B) {
	ns := container(b)
	for b.Loop() {
		rate, err := Rate(ns, "web", 2*time.Second)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(rate, "answers/s")
		times, err := Paced(ns, "web", 5000, 3*time.Second)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(Percentile(times, 50).Microseconds()), "µs-p50")
		b.ReportMetric(float64(Percentile(times, 99).Microseconds()), "µs-p99")
		b.ReportMetric(float64(Percentile(times, 99.9).Microseconds()), "µs-p99.9")
	}
}
