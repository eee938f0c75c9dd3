package names

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/driver/network/gantrynet"
	"github.com/gantry-engine/gantry/internal/netproto"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var ctx = context.Background()

// world is an engine as far as names are concerned: a real gantry-net, and namespaces instead of containers.
type world struct {
	t      *testing.T
	root   string
	exe    string // gantry-net
	client *Client
	mu     sync.Mutex
	ns     map[string]*os.File
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, root: testkit.ShortTempDir(t), exe: gantryNet(t), ns: map[string]*os.File{}}
	w.client = w.daemon()
	t.Cleanup(func() {
		for id := range w.ns {
			_ = w.client.Gone(ctx, id)
		}
		_ = w.client.Close()
		if w.process() != 0 {
			w.kill() // it would end by itself, seconds later
		}
	})
	return w
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

// gantryNet builds the process, which the go tool does from its cache.
func gantryNet(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("GANTRY_BIN"); dir != "" {
		return filepath.Join(dir, "gantry-net")
	}
	out := filepath.Join(testkit.ShortTempDir(t), "gantry-net")
	cmd := exec.Command("go", "build", "-o", out, "github.com/gantry-engine/gantry/cmd/gantry-net")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building gantry-net: %v\n%s", err, b)
	}
	return out
}

// daemon is a gantryd's client.
func (w *world) daemon() *Client {
	return New(gantrynet.New(w.exe, filepath.Join(w.root, "gantry-net.sock")), w.find)
}

func (w *world) find(container string) (*os.File, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ns[container] == nil {
		return nil, fmt.Errorf("container %s does not run: %w", container, os.ErrNotExist)
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", w.ns[container].Fd()))
}

// start makes a container on networks.
func (w *world) start(id string, address int, networkIDs ...string) {
	w.t.Helper()
	ns, err := netlink.NewNamespace(netlink.LoopbackUp)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = ns.Close() })
	w.mu.Lock()
	w.ns[id] = ns
	w.mu.Unlock()
	var joins []spec.NameEndpoint
	for _, n := range networkIDs {
		joins = append(joins, onNetwork(id, n, address))
	}
	if err := w.client.Serve(ctx, spec.NameSandbox{Container: id, Networks: networkIDs}, networks.NamePlace{NetNS: ns}, joins...); err != nil {
		w.t.Fatal(err)
	}
}

func onNetwork(id, network string, address int) spec.NameEndpoint {
	return spec.NameEndpoint{
		ID: id + network, Network: network, NetworkName: "net" + network, Container: id, Names: []string{id, "all"},
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, network[0], byte(address)})},
	}
}

// inside runs a command in a container's namespace.
func (w *world) inside(id string, args ...string) string {
	w.t.Helper()
	ns := fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), w.ns[id].Fd())
	out, err := exec.Command("nsenter", append([]string{ns}, args...)...).CombinedOutput()
	if err != nil {
		w.t.Logf("%v in %s: %v\n%s", args, id, err, out)
	}
	return strings.TrimSpace(string(out))
}

// dig asks 127.0.0.11 and gives the answers, sorted.
func (w *world) dig(id string, args ...string) string {
	w.t.Helper()
	out := w.inside(id, append([]string{"dig", "@127.0.0.11", "+short", "+tries=1", "+time=2"}, args...)...)
	lines := strings.Fields(out)
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

func (w *world) want(id, answer string, args ...string) {
	w.t.Helper()
	if got := w.dig(id, args...); got != answer {
		w.t.Errorf("%s asks %v: %q, want %q", id, args, got, answer)
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	w.start("web", 2, "1")
	w.start("db", 3, "1")
	w.start("other", 4, "2")
	for _, way := range []string{"+notcp", "+tcp"} {
		w.want("web", "10.0.49.3", way, "db")
		w.want("web", "10.0.49.3", way, "DB.net1")
		w.want("web", "10.0.49.2 10.0.49.3", way, "all")
		w.want("web", "", way, "other")
		w.want("web", "", way, "db", "AAAA")
		w.want("web", "db.net1.", way, "-x", "10.0.49.3")
	}
	for id := range w.ns {
		if err := w.client.Gone(ctx, id); err != nil {
			t.Error(err)
		}
	}
	await(t, "gantry-net, which holds nothing, to end beside a living daemon", func() bool {
		_, err := os.Stat(filepath.Join(w.root, "gantry-net.sock"))
		return errors.Is(err, os.ErrNotExist) && w.process() == 0
	})
}

// What it costs to make a namespace's redirection, which is on the bill of a pool, and its sockets, which is on a start's.
func BenchmarkNamespace(b *testing.B) {
	for b.Loop() {
		ns, err := netlink.NewNamespace(netlink.LoopbackUp)
		if err != nil {
			b.Fatal(err)
		}
		at := time.Now()
		if err := Redirect(ns); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(at).Microseconds()), "µs/redirect")
		at = time.Now()
		files, err := open(ns, netproto.ResolverPort)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(at).Microseconds()), "µs/sockets")
		closeAll(files)
		_ = ns.Close()
	}
}
