package publish

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

func (w *world) Reserve(_ context.Context, owner string, wants []netproto.Want) ([]netproto.Bound, error) {
	if w.taken != nil {
		return nil, &TakenError{*w.taken}
	}
	if err := w.do("reserve"); err != nil {
		return nil, err
	}
	ports := make([]netproto.Bound, len(wants))
	for i, x := range wants {
		if ports[i] = (netproto.Bound{Port: x.Port, IPv6: x.IPv6}); x.Port == 0 {
			ports[i].Port = 32768
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
		{Proto: "udp", ContainerPort: 53, HostPort: 32768, HostIP: netip.IPv6Unspecified()},
	}
	if !slices.Equal(got, want) {
		t.Errorf("bound %+v, want %+v", got, want)
	}
	if asked[0].Proto != "TCP" || asked[0].HostPortEnd != 8090 {
		t.Error("the caller's request was changed")
	}
	if h := w.held["c"]; h[0].End != 8090 || h[0].IPv6 || h[1].IPv6 || h[1].Host != netip.IPv6Unspecified() || h[1].Target.String() != "172.17.0.2:53" {
		t.Errorf("reserved %+v", h)
	}
	if w.rules["tcp 127.0.0.1:8080"] != "172.17.0.2:80" || len(w.rules) != 1 { // the container has no IPv6: gantry-net carries
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
	a := netip.MustParseAddr
	any4, any6, none := netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.Addr{}
	four, six := spec.PortTarget{IPv4: a(v4)}, spec.PortTarget{IPv6: a(v6)}
	both := spec.PortTarget{IPv4: a(v4), IPv6: a(v6)}
	bound, routed, routed6 := four, both, both
	bound.HostIPv4, routed.Routed4, routed.Routed6, routed6.Routed6 = a("192.0.2.1"), true, true, true
	rule4, rule6 := "tcp 0.0.0.0:8080 "+v4+":80", "tcp :::8080 ["+v6+"]:80"
	for name, c := range map[string]struct {
		to    spec.PortTarget
		host  netip.Addr
		rules string
		held  string // what is reserved: host, + for IPv6 too, and target
		bound string
	}{
		"IPv4, everywhere":         {four, none, rule4, "0.0.0.0+ " + v4 + ":80", "0.0.0.0:8080 [::]:8080"},
		"IPv4, everywhere of IPv4": {four, any4, rule4, "0.0.0.0 " + v4 + ":80", "0.0.0.0:8080"},
		"IPv4, everywhere of IPv6": {four, any6, "", ":: " + v4 + ":80", "[::]:8080"},
		"both, everywhere":         {both, none, rule4 + " " + rule6, "0.0.0.0+ " + v4 + ":80", "0.0.0.0:8080 [::]:8080"},
		"both, one address":        {both, a("127.0.0.1"), "tcp 127.0.0.1:8080 " + v4 + ":80", "127.0.0.1 " + v4 + ":80", "127.0.0.1:8080"},
		"both, one of IPv6":        {both, a("fd99::1"), "tcp fd99::1:8080 [" + v6 + "]:80", "fd99::1 [" + v6 + "]:80", "[fd99::1]:8080"},
		"IPv6, everywhere":         {six, none, rule6, "0.0.0.0+ [" + v6 + "]:80", "0.0.0.0:8080 [::]:8080"},
		"IPv6, everywhere of IPv4": {six, any4, "", "0.0.0.0 [" + v6 + "]:80", "0.0.0.0:8080"},
		"the network's address":    {bound, none, "tcp 192.0.2.1:8080 " + v4 + ":80", "192.0.2.1 " + v4 + ":80", "192.0.2.1:8080"},
		"routed over both":         {routed, none, "tcp 0.0.0.0:0 " + v4 + ":80 tcp :::0 [" + v6 + "]:80", "", "0.0.0.0:0 [::]:0"},
		"routed over IPv6 only":    {routed6, none, rule4 + " tcp :::0 [" + v6 + "]:80", "0.0.0.0 " + v4 + ":80", "0.0.0.0:8080 [::]:0"},
	} {
		for _, again := range []bool{false, true} { // published, and taken over after a restart
			w := newWorld()
			p := New(Config{IPv6: true}, rulesOf{w}, w)
			ports := []spec.Port{{Proto: "tcp", ContainerPort: 80, HostPort: 8080, HostIP: c.host}}
			got, err := p.Publish(ctx, "c", c.to, ports)
			if again && err == nil {
				w = newWorld()
				p = New(Config{IPv6: true}, rulesOf{w}, w)
				err = errors.Join(p.Restore(ctx, "c", c.to, got), p.Ready(ctx), p.Close(ctx, false))
			}
			var held, rules, bound []string
			for _, x := range w.held["c"] {
				held = append(held, x.Host.String()+map[bool]string{true: "+"}[x.IPv6]+" "+x.Target.String())
			}
			for k, to := range w.rules {
				rules = append(rules, k+" "+to)
			}
			slices.Sort(rules)
			for _, x := range got {
				bound = append(bound, netip.AddrPortFrom(x.HostIP, x.HostPort).String())
			}
			if err != nil || strings.Join(rules, " ") != c.rules || strings.Join(held, " ") != c.held || strings.Join(bound, " ") != c.bound {
				t.Errorf("%s, restored %t: %v; rules %q, reserved %q, bound %q; want %q, %q, %q", name, again, err, rules, held, bound, c.rules, c.held, c.bound)
			}
			if err := p.Withdraw(ctx, "c"); err != nil || len(w.rules)+len(w.held) != 0 {
				t.Errorf("%s, restored %t: left %v, %v: %v", name, again, w.rules, w.held, err)
			}
		}
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
