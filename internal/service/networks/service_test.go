package networks

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/spec"
)

var ctx = context.Background()

// log is what the fakes were asked, in order.
type log struct {
	done []string
	fail string
}

func (l *log) do(what string) error {
	l.done = append(l.done, what)
	if what == l.fail {
		return errors.New("broken")
	}
	return nil
}

type fakeDriver struct {
	*log
	addr netip.Prefix
}

func (d fakeDriver) Open(context.Context) error  { return d.do("open") }
func (d fakeDriver) Ready(context.Context) error { return d.do("ready") }
func (d fakeDriver) Close(_ context.Context, remove bool) error {
	if remove {
		return d.do("close and remove")
	}
	return nil
}
func (d fakeDriver) Attach(_ context.Context, j Join) (Attached, error) {
	if err := d.do("attach"); err != nil {
		return Attached{}, err
	}
	a := Attached{Endpoint: spec.Endpoint{Interface: j.Interface, HostInterface: "br0", IPv4: d.addr, Gateway4: d.addr.Masked().Addr().Next()}}
	if j.NetNS != nil {
		return a, nil
	}
	var err error
	a.NetNS, err = os.Open(os.DevNull)
	return a, err
}
func (d fakeDriver) Restore(context.Context, spec.Endpoint) error          { return d.do("restore") }
func (d fakeDriver) Unplug(context.Context, spec.Endpoint, *os.File) error { return d.do("unplug") }
func (d fakeDriver) Detach(context.Context, spec.Endpoint) error           { return d.do("detach") }

// fakeKind makes networks whose containers all have the first address but one.
type fakeKind struct{ *log }

func (k fakeKind) Settle(n *spec.Network) error {
	if n.Options["bad"] != "" {
		return fmt.Errorf("bad option: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}
func (k fakeKind) New(n spec.Network, _ Space) (Driver, error) {
	return fakeDriver{k.log, netip.PrefixFrom(n.Pools[0].Gateway.Next(), n.Pools[0].Subnet.Bits())}, nil
}
func (k fakeKind) Sweep(context.Context, func(string) bool) error { return k.do("sweep") }

// fakeIPAM gives 10.N.0.0/16 to the Nth network.
type fakeIPAM struct {
	*log
	n *byte
}

func (f fakeIPAM) Reserve(_ context.Context, n *spec.Network) (Space, error) {
	if len(n.Pools) == 0 {
		*f.n++
		a := netip.AddrFrom4([4]byte{10, *f.n, 0, 1})
		n.Pools = []spec.Pool{{Subnet: netip.PrefixFrom(a, 16).Masked(), Gateway: a}}
	}
	return Space{}, f.do("reserve")
}
func (f fakeIPAM) Release(context.Context, spec.Network) error { return f.do("release") }

// fakeRecords keeps records in memory.
type fakeRecords struct {
	*log
	kept map[string][]byte
}

func (r fakeRecords) Save(_ context.Context, id string, data []byte) error {
	if err := r.do("save"); err != nil {
		return err
	}
	r.kept[id] = data
	return nil
}
func (r fakeRecords) Remove(_ context.Context, id string) error {
	if err := r.do("forget"); err != nil {
		return err
	}
	delete(r.kept, id)
	return nil
}
func (r fakeRecords) All(context.Context) iter.Seq2[string, []byte] { return maps.All(r.kept) }

// fakeSpaces notes the default routes.
type fakeSpaces struct{ *log }

func (f fakeSpaces) Of(int) (*os.File, error) { return os.Open(os.DevNull) }
func (f fakeSpaces) Route(_ *os.File, via4, _ *spec.Endpoint) error {
	if via4 == nil {
		return f.do("no route")
	}
	return f.do("route by " + via4.NetworkName)
}

type fakePorts struct{ *log }

func (p fakePorts) Publish(_ context.Context, _ string, _ spec.PortTarget, ports []spec.Port) ([]spec.Port, error) {
	return ports, p.do("publish")
}
func (p fakePorts) Restore(context.Context, string, spec.PortTarget, []spec.Port) error {
	return p.do("restore ports")
}
func (p fakePorts) Ready(context.Context) error            { return p.do("ports ready") }
func (p fakePorts) Withdraw(context.Context, string) error { return p.do("withdraw") }
func (p fakePorts) Close(_ context.Context, remove bool) error {
	if remove {
		return p.do("remove all")
	}
	return p.do("leave all")
}

func (l *log) Publish(m events.Message) { l.done = append(l.done, string(m.Action)) }

// deps are fakes that write into one log.
func deps(l *log) Deps {
	d := fakeDriver{l, netip.MustParsePrefix("172.17.0.2/16")}
	return Deps{
		Predefined: []Predefined{
			{Network: spec.Network{Name: "bridge", Driver: "bridge", EnableIPv4: true}, Driver: d},
			{Network: spec.Network{Name: "host", Driver: "host"}, Driver: fakeDriver{log: l}}, {Network: spec.Network{Name: "none", Driver: "null"}, Driver: fakeDriver{log: l}},
		},
		Kinds: map[string]Kind{"bridge": fakeKind{l}}, IPAM: map[string]IPAM{"default": fakeIPAM{l, new(byte)}}, Namespaces: fakeSpaces{l},
		Ports: fakePorts{l}, Records: fakeRecords{l, map[string][]byte{}}, Events: l,
	}
}

func service(t *testing.T) (*Service, *log) {
	t.Helper()
	l := &log{}
	return begin(t, l, deps(l)), l
}

func begin(t *testing.T, l *log, d Deps) *Service {
	t.Helper()
	s, err := New(Config{Seed: "x"}, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Open(ctx), s.Start(ctx)); err != nil {
		t.Fatal(err)
	}
	l.done = nil
	return s
}

var request = spec.SandboxRequest{Container: "c", Name: "web", Ports: []spec.Port{{Proto: "tcp", ContainerPort: 80}}}

func TestAttachAndRelease(t *testing.T) {
	s, l := service(t)
	sb, err := s.Attach(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Attach(ctx, request); !errdefs.IsAlreadyExists(err) {
		t.Errorf("attached twice: %v", err)
	}
	in, err := s.Inspect(ctx, "bridge", "")
	if err != nil || in.Containers["c"].Name != "web" || in.Containers["c"].IPv4Address.String() != "172.17.0.2/16" {
		t.Errorf("inspect shows %+v, %v", in.Containers, err)
	}
	for range 2 {
		if err := s.Release(ctx, "c", sb); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"attach", "publish", "connect", "withdraw", "detach", "disconnect"}; !slices.Equal(l.done, want) {
		t.Errorf("steps %v, want %v", l.done, want)
	}
	if err := sb.NetNS.Close(); !errors.Is(err, os.ErrClosed) {
		t.Error("the namespace's descriptor was left open")
	}
}

func TestFailingStepsAreUndone(t *testing.T) {
	for fail, want := range map[string][]string{"attach": {"attach"}, "publish": {"attach", "publish", "detach"}} {
		s, l := service(t)
		l.fail = fail
		if _, err := s.Attach(ctx, request); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("%s failing: %v", fail, err)
		}
		if !slices.Equal(l.done, want) {
			t.Errorf("%s failing: steps %v, want %v", fail, l.done, want)
		}
		l.fail = ""
		if _, err := s.Attach(ctx, request); err != nil {
			t.Errorf("after a failed attempt: %v", err)
		}
	}
}

func TestCloseSparesLiving(t *testing.T) {
	s, l := service(t)
	sb, err := s.Attach(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(ctx); err != nil || l.done[len(l.done)-1] != "leave all" {
		t.Errorf("closing with a container: %v %v", l.done, err)
	}
	if _, err := s.Attach(ctx, spec.SandboxRequest{Container: "d"}); !errdefs.IsUnavailable(err) {
		t.Errorf("attaching after Close: %v", err)
	}
	_ = s.Release(ctx, "c", sb)
	if err := s.Close(ctx); err != nil || !slices.Contains(l.done, "remove all") {
		t.Errorf("closing without: %v %v", l.done, err)
	}
}

func TestObjects(t *testing.T) {
	s, _ := service(t)
	again, _ := service(t)
	all, err := s.List(ctx, nil)
	if err != nil || len(all) != 3 || all[0].Name != "bridge" || all[2].Driver != "null" || all[0].ID != again.nets.all()[0].ID || len(all[0].ID) != 64 {
		t.Fatalf("list: %+v, %v", all, err)
	}
	if one, err := s.List(ctx, filters.Args{"driver": {"host"}}); err != nil || len(one) != 1 {
		t.Errorf("filtered list: %+v, %v", one, err)
	}
	if _, err := s.Inspect(ctx, all[1].ID[:12], ""); err != nil {
		t.Errorf("inspect by short ID: %v", err)
	}
	if err := s.Remove(ctx, "bridge"); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "bridge is a pre-defined network and cannot be removed") {
		t.Errorf("remove: %v", err)
	}
	unknown := spec.SandboxRequest{Container: "c", Endpoints: []spec.EndpointRequest{{Network: "nope"}}}
	if err := s.Check(ctx, unknown); err != nil {
		t.Errorf("unknown network at create: %v", err)
	}
	if _, err := s.Attach(ctx, unknown); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "network nope not found") {
		t.Errorf("unknown network at start: %v", err)
	}
	if err := s.Check(ctx, spec.SandboxRequest{Ports: []spec.Port{{Proto: "dccp", ContainerPort: 1}}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("dccp: %v", err)
	}
}

func TestStartGoesOnWithoutTidiness(t *testing.T) {
	l := &log{fail: "ready"}
	s, err := New(Config{Seed: "x"}, deps(l))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Open(ctx), s.Start(ctx)); err != nil {
		t.Fatalf("a driver that could not tidy up kept the daemon from starting: %v", err)
	}
	if _, err := s.Attach(ctx, request); err != nil {
		t.Error(err)
	}
}

func TestRestoreOfWhatFails(t *testing.T) {
	for _, fail := range []string{"restore", "restore ports"} {
		l := &log{fail: fail}
		s, err := New(Config{Seed: "x"}, deps(l))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Open(ctx); err != nil {
			t.Fatal(err)
		}
		sb := spec.Sandbox{ID: "s", Ports: request.Ports, Endpoints: []spec.Endpoint{{NetworkID: s.nets.all()[0].ID, HostInterface: "br0", IPv4: netip.MustParsePrefix("172.17.0.2/16"), Gateway4: netip.MustParseAddr("172.17.0.1")}, {NetworkID: "gone"}}}
		if err := s.Restore(ctx, "c", sb, 1<<22+1); err == nil || !strings.Contains(err.Error(), "broken") || !errdefs.IsNotFound(err) {
			t.Errorf("%s failing, and a network that is no more: %v", fail, err)
		}
		if err := s.Start(ctx); err != nil {
			t.Fatal(err)
		}
		l.done = nil
		if err := s.Release(ctx, "c", sb); err != nil || !slices.Contains(l.done, "withdraw") || !slices.Contains(l.done, "detach") {
			t.Errorf("release after it: %v, %v", l.done, err)
		}
	}
}
