package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/firewall"
	"github.com/gantry-engine/gantry/internal/driver/network/gantrynet"
	"github.com/gantry-engine/gantry/internal/netproto"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var ctx = context.Background()

// world is an honest fake of the rules and of gantry-net: it refuses what these would
// refuse, and writes down what it was asked.
type world struct {
	log   []string
	rules map[string]string // as published: target
	held  map[string][]netproto.Want
	taken *netproto.Taken
	fail  string
	lost  chan struct{}
}

func newWorld() *world {
	return &world{rules: map[string]string{}, held: map[string][]netproto.Want{}, lost: make(chan struct{}, 1)}
}

func (w *world) do(format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	w.log = append(w.log, what)
	if w.fail != "" && strings.HasPrefix(what, w.fail) {
		return errors.New("broken")
	}
	return nil
}

func key(m firewall.Mapping) string { return fmt.Sprintf("%s %s:%d", m.Proto, m.Host, m.Port) }

func (w *world) Rebuild() error { return w.do("rebuild") }

func (w *world) Add(ports []firewall.Mapping) error {
	if err := w.do("add"); err != nil {
		return err
	}
	for _, m := range ports {
		w.rules[key(m)] = m.Target.String()
	}
	return nil
}

func (w *world) Remove(ports []firewall.Mapping) error {
	for _, m := range ports {
		delete(w.rules, key(m))
	}
	return w.do("remove")
}

// rulesOf is the side of the world that the firewall has.
type rulesOf struct{ *world }

func (r rulesOf) Close(remove bool) error { return r.do("close rules, remove %t", remove) }

func (w *world) Reserve(_ context.Context, owner string, wants []netproto.Want) ([]uint16, error) {
	if w.taken != nil {
		return nil, &TakenError{*w.taken}
	}
	if err := w.do("reserve"); err != nil {
		return nil, err
	}
	ports := make([]uint16, len(wants))
	for i, x := range wants {
		if ports[i] = x.Port; x.Port == 0 {
			ports[i] = 32768
		}
	}
	w.held[owner] = wants
	return ports, nil
}

func (w *world) Release(_ context.Context, owner string) error {
	delete(w.held, owner)
	return w.do("release")
}
func (w *world) Adopt(owner string, wants []netproto.Want) { w.held[owner] = wants }
func (w *world) Sync(context.Context) error                { return w.do("sync") }
func (w *world) Lost() <-chan struct{}                     { return w.lost }
func (w *world) Close() error                              { return w.do("close") }

var to = netip.MustParseAddr("172.17.0.2")

func TestPublishAndWithdraw(t *testing.T) {
	w := newWorld()
	p := New(Config{HostIP: netip.MustParseAddr("127.0.0.1"), IPv6: true}, rulesOf{w}, w)
	asked := []spec.Port{
		{Proto: "TCP", ContainerPort: 80, HostPort: 8080, HostPortEnd: 8090},
		{Proto: "udp", ContainerPort: 53, HostIP: netip.IPv6Unspecified()},
	}
	got, err := p.Publish(ctx, "c", spec.PortTarget{IPv4: to}, asked)
	if err != nil {
		t.Fatal(err)
	}
	want := []spec.Port{
		{Proto: "tcp", ContainerPort: 80, HostPort: 8080, HostIP: netip.MustParseAddr("127.0.0.1")},
		{Proto: "udp", ContainerPort: 53, HostPort: 32768, HostIP: netip.IPv4Unspecified()},
	}
	if !slices.Equal(got, want) {
		t.Errorf("bound %+v, want %+v", got, want)
	}
	if asked[0].Proto != "TCP" || asked[0].HostPortEnd != 8090 {
		t.Error("the caller's request was changed")
	}
	if h := w.held["c"]; h[0].End != 8090 || h[0].IPv6 || !h[1].IPv6 || h[1].Target.String() != "172.17.0.2:53" {
		t.Errorf("reserved %+v", h)
	}
	if w.rules["tcp 127.0.0.1:8080"] != "172.17.0.2:80" || w.rules["udp 0.0.0.0:32768"] != "172.17.0.2:53" {
		t.Errorf("rules %v", w.rules)
	}
	for range 2 {
		if err := p.Withdraw(ctx, "c"); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"reserve", "add", "remove", "release"}; !slices.Equal(w.log, want) || len(w.rules)+len(w.held) != 0 {
		t.Errorf("steps %v, want %v; left %v %v", w.log, want, w.rules, w.held)
	}
}

// TestTargets: what is reserved and which rules are made, by the container's addresses.
func TestTargets(t *testing.T) {
	const v4, v6 = "172.17.0.2", "fd00::2"
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	for name, c := range map[string]struct {
		to    spec.PortTarget
		host  netip.Addr
		rules map[string]string
		held  string // what is reserved: host and target; empty for nothing
	}{
		"both families":           {spec.PortTarget{IPv4: netip.MustParseAddr(v4), IPv6: netip.MustParseAddr(v6)}, any4, map[string]string{"tcp 0.0.0.0:8080": v4 + ":80", "tcp :::8080": "[" + v6 + "]:80"}, "0.0.0.0 " + v4 + ":80"},
		"both, one address":       {spec.PortTarget{IPv4: netip.MustParseAddr(v4), IPv6: netip.MustParseAddr(v6)}, netip.MustParseAddr("127.0.0.1"), map[string]string{"tcp 127.0.0.1:8080": v4 + ":80"}, "127.0.0.1 " + v4 + ":80"},
		"IPv6 only":               {spec.PortTarget{IPv6: netip.MustParseAddr(v6)}, any6, map[string]string{"tcp :::8080": "[" + v6 + "]:80"}, "0.0.0.0 [" + v6 + "]:80"},
		"the network's address":   {spec.PortTarget{IPv4: netip.MustParseAddr(v4), HostIPv4: netip.MustParseAddr("192.0.2.1")}, netip.Addr{}, map[string]string{"tcp 192.0.2.1:8080": v4 + ":80"}, "192.0.2.1 " + v4 + ":80"},
		"routed":                  {spec.PortTarget{IPv4: netip.MustParseAddr(v4), Routed4: true}, any4, map[string]string{"tcp 0.0.0.0:0": v4 + ":80"}, ""},
		"routed over IPv6 only":   {spec.PortTarget{IPv4: netip.MustParseAddr(v4), IPv6: netip.MustParseAddr(v6), Routed6: true}, any4, map[string]string{"tcp 0.0.0.0:8080": v4 + ":80", "tcp :::8080": "[" + v6 + "]:80"}, "0.0.0.0 " + v4 + ":80"},
		"routed over both, in v6": {spec.PortTarget{IPv4: netip.MustParseAddr(v4), IPv6: netip.MustParseAddr(v6), Routed4: true, Routed6: true}, any6, map[string]string{"tcp 0.0.0.0:0": v4 + ":80", "tcp :::0": "[" + v6 + "]:80"}, ""},
	} {
		for _, again := range []bool{false, true} { // published, and taken over after a restart
			w := newWorld()
			p := New(Config{}, rulesOf{w}, w)
			ports := []spec.Port{{Proto: "tcp", ContainerPort: 80, HostPort: 8080, HostIP: c.host}}
			bound, err := p.Publish(ctx, "c", c.to, ports)
			if again && err == nil {
				w = newWorld()
				p = New(Config{}, rulesOf{w}, w)
				err = errors.Join(p.Restore(ctx, "c", c.to, bound), p.Ready(ctx), p.Close(ctx, false))
			}
			held := ""
			for _, x := range w.held["c"] {
				held += x.Host.String() + " " + x.Target.String()
			}
			if err != nil || !maps.Equal(w.rules, c.rules) || held != c.held {
				t.Errorf("%s, restored %t: %v; rules %v, reserved %q; want %v, %q", name, again, err, w.rules, held, c.rules, c.held)
			}
			if err := p.Withdraw(ctx, "c"); err != nil || len(w.rules)+len(w.held) != 0 {
				t.Errorf("%s, restored %t: left %v, %v: %v", name, again, w.rules, w.held, err)
			}
		}
	}
}

// TestSCTP: its ports are taken and found here; gantry-net hears of none.
func TestSCTP(t *testing.T) {
	w := newWorld()
	p := New(Config{}, rulesOf{w}, w)
	target := spec.PortTarget{IPv4: to}
	publish := func(id string, ports ...spec.Port) ([]spec.Port, error) {
		for i := range ports {
			ports[i].Proto, ports[i].ContainerPort = "sctp", 2905
		}
		return p.Publish(ctx, id, target, ports)
	}
	if got, err := publish("a", spec.Port{HostPort: 9000}, spec.Port{HostPort: 9000, HostPortEnd: 9005}); err != nil || got[0].HostPort != 9000 || got[1].HostPort != 9001 {
		t.Fatalf("%v, %v", got, err)
	}
	if len(w.held) != 0 || w.rules["sctp 0.0.0.0:9001"] != "172.17.0.2:2905" {
		t.Errorf("reserved %v, rules %v", w.held, w.rules)
	}
	for what, x := range map[string]spec.Port{
		"one port": {HostPort: 9001}, "one address": {HostPort: 9001, HostIP: netip.MustParseAddr("127.0.0.1")}, "a range": {HostPort: 9000, HostPortEnd: 9001},
	} {
		var taken *networks.PortTakenError
		if _, err := publish("b", x); !errors.As(err, &taken) || taken.Owner != "a" {
			t.Errorf("%s: %v", what, err)
		}
	}
	first, last := ephemeral()
	one, err := publish("b", spec.Port{})
	if err != nil {
		t.Fatal(err)
	}
	two, err := publish("c", spec.Port{})
	if err != nil || one[0].HostPort < first || two[0].HostPort > last || one[0].HostPort == two[0].HostPort {
		t.Errorf("ephemeral ports %v, %v of %d to %d: %v", one, two, first, last, err)
	}
	if err := p.Withdraw(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := publish("d", spec.Port{HostPort: 9001}); err != nil {
		t.Errorf("a port given back: %v", err)
	}
	if _, err := New(Config{}, nil, w).Publish(ctx, "e", target, []spec.Port{{Proto: "sctp", ContainerPort: 1, HostPort: 9009}}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "--iptables=false") {
		t.Errorf("without packet rules: %v", err)
	}
}

func TestFailedStepsAreUndone(t *testing.T) {
	for fail, want := range map[string][]string{"reserve": {"reserve"}, "add": {"reserve", "add", "release"}} {
		w := newWorld()
		w.fail = fail
		p := New(Config{}, rulesOf{w}, w)
		if _, err := p.Publish(ctx, "c", spec.PortTarget{IPv4: to}, []spec.Port{{Proto: "tcp", ContainerPort: 80}}); err == nil {
			t.Errorf("%s failing: no error", fail)
		}
		if !slices.Equal(w.log, want) || len(p.open)+len(w.held) != 0 {
			t.Errorf("%s failing: steps %v, want %v; left %v %v", fail, w.log, want, p.open, w.held)
		}
	}
}

func TestRestore(t *testing.T) {
	w := newWorld()
	p := New(Config{}, rulesOf{w}, w)
	ports := []spec.Port{{Proto: "tcp", ContainerPort: 80, HostPort: 8080, HostIP: netip.IPv4Unspecified()}}
	if err := p.Restore(ctx, "c", spec.PortTarget{IPv4: to}, ports); err != nil {
		t.Fatal(err)
	}
	w.fail = "sync" // a port that cannot be reserved stops nobody
	if err := p.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	if w.rules["tcp 0.0.0.0:8080"] != "172.17.0.2:80" || len(w.held["c"]) != 1 {
		t.Errorf("rules %v, held %v", w.rules, w.held)
	}
	if err := p.Close(ctx, false); err != nil {
		t.Fatal(err)
	}
	if len(w.rules) != 1 {
		t.Error("a living container's rules were removed")
	}
}

func TestReadyNeedsItsRules(t *testing.T) {
	w := newWorld()
	w.fail = "rebuild"
	if err := New(Config{}, rulesOf{w}, w).Ready(ctx); err == nil {
		t.Error("no packet rules, and nobody says so")
	}
}

func TestPortTaken(t *testing.T) {
	w := newWorld()
	p := New(Config{}, rulesOf{w}, w)
	l, err := net.ListenPacket("udp4", ":9400")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		taken netproto.Taken
		cause string
	}{
		{netproto.Taken{Port: 9400, Cause: "address already in use"}, fmt.Sprintf("address already in use: process %d (publish.test) has it", os.Getpid())},
		{netproto.Taken{Port: 9401, Cause: "address already in use"}, "address already in use"},
		{netproto.Taken{Port: 9400, Cause: "permission denied"}, "permission denied"},
		{netproto.Taken{Port: 9400, Owner: "other"}, ""},
	} {
		w.taken = &c.taken
		_, err := p.Publish(ctx, "c", spec.PortTarget{IPv4: to}, []spec.Port{{Proto: "udp", ContainerPort: 53, HostPort: 9400, HostPortEnd: 9401}})
		var taken *networks.PortTakenError
		if !errors.As(err, &taken) || taken.Cause != c.cause || taken.Owner != c.taken.Owner || taken.Port.HostPort != c.taken.Port {
			t.Errorf("%+v: %+v, want cause %q", c.taken, taken, c.cause)
		}
	}
}

func TestHolder(t *testing.T) {
	l, err := net.Listen("tcp", ":9410") // IPv6, which takes IPv4's too
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", "127.0.0.1:9410")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := holder("tcp", 9410); !strings.HasPrefix(got, fmt.Sprintf("process %d (", os.Getpid())) {
		t.Errorf("who listens: %q", got)
	}
	if got := holder("udp", 9410); got != "" {
		t.Errorf("who has the UDP port: %q", got)
	}
	if got := holder("tcp", uint16(c.LocalAddr().(*net.TCPAddr).Port)); got != "" {
		t.Errorf("a connection's own port counts as held by %q", got)
	}
}

func TestWithoutGantryNet(t *testing.T) {
	dir := testkit.ShortTempDir(t)
	c := NewClient(gantrynet.New(dir+"/nothing", dir+"/s"))
	if err := c.Sync(ctx); err != nil {
		t.Errorf("nothing is held, none is needed: %v", err)
	}
	if err := c.Release(ctx, "c"); err != nil {
		t.Errorf("nothing is held: %v", err)
	}
	if _, err := c.Reserve(ctx, "c", []netproto.Want{{Proto: "tcp", Port: 1}}); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "gantry-net") {
		t.Errorf("no executable: %v", err)
	}
	if _, err := os.Stat(dir + "/s"); err == nil {
		t.Error("the socket was left")
	}
	c.Adopt("c", []netproto.Want{{Proto: "tcp", Port: 1}})
	if err := c.Sync(ctx); err == nil {
		t.Error("a held port without a gantry-net, and nobody says so")
	}
}

// TestGantryNetThatHangs: a peer that never answers is given up with the caller.
func TestGantryNetThatHangs(t *testing.T) {
	path := testkit.ShortTempDir(t) + "/s"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := NewClient(gantrynet.New("/nonexistent", path))
	short, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("the client hung up"))
	if _, err := c.Reserve(short, "c", []netproto.Want{{Proto: "tcp", Port: 1}}); err == nil || !strings.Contains(err.Error(), "the client hung up") {
		t.Errorf("%v", err)
	}
	if len(c.held) != 0 || c.net.Told || c.net.Tidy {
		t.Error("what may have been reserved is not in doubt")
	}
	select {
	case <-c.Lost():
	default:
		t.Error("nobody is told to look after it")
	}
}
