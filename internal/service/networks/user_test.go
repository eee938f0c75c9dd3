package networks

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/spec"
)

func create(t *testing.T, s *Service, req network.CreateRequest) string {
	t.Helper()
	out, err := s.Create(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	return out.ID
}

func TestCreateAndRemove(t *testing.T) {
	s, l := service(t)
	id := create(t, s, network.CreateRequest{Name: "mine", Labels: map[string]string{"a": "b"}})
	if want := []string{"reserve", "open", "save", "ready", "create"}; !slices.Equal(l.done, want) {
		t.Errorf("steps %v, want %v", l.done, want)
	}
	n, err := s.Inspect(ctx, id[:12], "")
	if err != nil || n.Name != "mine" || n.Driver != "bridge" || n.IPAM.Config[0].Subnet.String() != "10.1.0.0/16" || n.Labels["a"] != "b" || n.Scope != "local" {
		t.Errorf("inspect: %+v, %v", n, err)
	}
	if _, err := s.Create(ctx, network.CreateRequest{Name: "mine"}); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "network with name mine already exists") {
		t.Errorf("twice: %v", err)
	}
	sb, err := s.Attach(ctx, spec.SandboxRequest{Container: "c", Name: "web", Endpoints: []spec.EndpointRequest{{Network: "mine"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, "mine"); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), `has active endpoints (name:"web"`) {
		t.Errorf("in use: %v", err)
	}
	if err := s.Release(ctx, "c", sb); err != nil {
		t.Fatal(err)
	}
	l.done = nil
	if err := s.Remove(ctx, "mine"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"close and remove", "forget", "release", "destroy"}; !slices.Equal(l.done, want) {
		t.Errorf("steps %v, want %v", l.done, want)
	}
	if err := s.Remove(ctx, "mine"); !errdefs.IsNotFound(err) {
		t.Errorf("twice: %v", err)
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	for fail, want := range map[string][]string{
		"reserve": {"reserve"},
		"open":    {"reserve", "open", "close and remove", "release"},
		"save":    {"reserve", "open", "save", "close and remove", "release"},
		"ready":   {"reserve", "open", "save", "ready", "forget", "close and remove", "release"},
	} {
		s, l := service(t)
		l.fail = fail
		if _, err := s.Create(ctx, network.CreateRequest{Name: "mine"}); err == nil {
			t.Errorf("%s failing: no error", fail)
		}
		if !slices.Equal(l.done, want) {
			t.Errorf("%s failing: steps %v, want %v", fail, l.done, want)
		}
		l.fail = ""
		create(t, s, network.CreateRequest{Name: "mine"})
	}
}

func TestFailedRemovalKeepsTheNetwork(t *testing.T) {
	for _, fail := range []string{"close and remove", "forget"} {
		s, l := service(t)
		create(t, s, network.CreateRequest{Name: "mine"})
		l.fail = fail
		if err := s.Remove(ctx, "mine"); err == nil {
			t.Errorf("%s failing: no error", fail)
		}
		l.fail = ""
		if _, err := s.Attach(ctx, spec.SandboxRequest{Container: "c", Endpoints: []spec.EndpointRequest{{Network: "mine"}}}); err != nil {
			t.Errorf("after %s failed: %v", fail, err)
		}
	}
}

func TestNetworksComeBack(t *testing.T) {
	l := &log{}
	d := deps(l)
	s := begin(t, l, d)
	first := create(t, s, network.CreateRequest{Name: "first", Options: map[string]string{"o": "1"}})
	create(t, s, network.CreateRequest{Name: "second"})
	create(t, s, network.CreateRequest{Name: "shape", ConfigOnly: true, Options: map[string]string{"o": "2"}, EnableIPv6: new(bool)})
	before, _ := s.List(ctx, nil)

	s = begin(t, l, d)
	after, err := s.List(ctx, nil)
	if err != nil || len(after) != len(before) {
		t.Fatalf("%d networks of %d came back: %v", len(after), len(before), err)
	}
	for i := range before {
		if before[i].ID != after[i].ID || before[i].Name != after[i].Name || before[i].Options["o"] != after[i].Options["o"] {
			t.Errorf("before %+v, after %+v", before[i], after[i])
		}
	}

	// One that cannot be opened is there, says why, and is tried again.
	l.fail = "open"
	d.Predefined[0].Driver, d.Predefined[1].Driver, d.Predefined[2].Driver = fakeDriver{log: &log{}}, fakeDriver{log: &log{}}, fakeDriver{log: &log{}}
	s, err = New(Config{Seed: "x"}, d)
	if err := errors.Join(err, s.Open(ctx), s.Start(ctx)); err != nil {
		t.Fatal(err)
	}
	want := spec.SandboxRequest{Container: "c", Endpoints: []spec.EndpointRequest{{Network: first}}}
	if _, err := s.Attach(ctx, want); err == nil || !strings.Contains(err.Error(), "network first cannot be used: broken") {
		t.Errorf("a network that could not be opened: %v", err)
	}
	l.fail = ""
	if _, err := s.Attach(ctx, want); err != nil {
		t.Errorf("when it can be opened again: %v", err)
	}
}

func TestRefusedNetworks(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	yes, no := true, false
	s, _ := service(t)
	create(t, s, network.CreateRequest{Name: "shape", ConfigOnly: true})
	create(t, s, network.CreateRequest{Name: "there", Options: map[string]string{bridgeName: "br0"}})
	ipam := func(c network.IPAMConfig) *network.IPAM { return &network.IPAM{Config: []network.IPAMConfig{c}} }
	for what, c := range map[string]struct {
		req  network.CreateRequest
		is   func(error) bool
		text string
	}{
		"no name":             {network.CreateRequest{Name: " "}, errdefs.IsInvalidArgument, "a name is needed"},
		"a predefined name":   {network.CreateRequest{Name: "host"}, errdefs.IsPermissionDenied, "predefined host network"},
		"a second host":       {network.CreateRequest{Name: "n", Driver: "host"}, errdefs.IsPermissionDenied, `only one instance of "host" network is allowed`},
		"an unknown driver":   {network.CreateRequest{Name: "n", Driver: "pigeon"}, errdefs.IsNotFound, "pigeon"},
		"an unknown IPAM":     {network.CreateRequest{Name: "n", IPAM: &network.IPAM{Driver: "dice"}}, errdefs.IsNotFound, "dice"},
		"a bad option":        {network.CreateRequest{Name: "n", Options: map[string]string{"bad": "1"}}, errdefs.IsInvalidArgument, "bad option"},
		"no family":           {network.CreateRequest{Name: "n", EnableIPv4: &no}, errdefs.IsInvalidArgument, "IPv4 or IPv6 must be enabled"},
		"a swarm's":           {network.CreateRequest{Name: "n", Scope: "swarm"}, errdefs.IsNotImplemented, "swarm"},
		"another scope":       {network.CreateRequest{Name: "n", Scope: "moon"}, errdefs.IsInvalidArgument, "moon"},
		"host bits":           {network.CreateRequest{Name: "n", IPAM: ipam(network.IPAMConfig{Subnet: p("10.9.0.1/24")})}, errdefs.IsInvalidArgument, "it should be 10.9.0.0/24"},
		"a gateway elsewhere": {network.CreateRequest{Name: "n", IPAM: ipam(network.IPAMConfig{Subnet: p("10.9.0.0/24"), Gateway: a("10.8.0.1")})}, errdefs.IsInvalidArgument, "doesn't contain this address"},
		"a range elsewhere":   {network.CreateRequest{Name: "n", IPAM: ipam(network.IPAMConfig{Subnet: p("10.9.0.0/24"), IPRange: p("10.8.0.0/25")})}, errdefs.IsInvalidArgument, "doesn't contain ip-range"},
		"a range too large":   {network.CreateRequest{Name: "n", IPAM: ipam(network.IPAMConfig{Subnet: p("10.9.0.0/24"), IPRange: p("10.9.0.0/16")})}, errdefs.IsInvalidArgument, "bigger than its parent"},
		"an aux elsewhere":    {network.CreateRequest{Name: "n", IPAM: ipam(network.IPAMConfig{Subnet: p("10.9.0.0/24"), AuxAddress: map[string]netip.Addr{"x": a("10.8.0.1")}})}, errdefs.IsInvalidArgument, "x=10.8.0.1"},
		"IPv6 not enabled":    {network.CreateRequest{Name: "n", IPAM: ipam(network.IPAMConfig{Subnet: p("fd00::/64")})}, errdefs.IsInvalidArgument, "IPv6 is not enabled"},
		"IPv4 not enabled":    {network.CreateRequest{Name: "n", EnableIPv4: &no, EnableIPv6: &yes, IPAM: ipam(network.IPAMConfig{Subnet: p("10.9.0.0/24")})}, errdefs.IsInvalidArgument, "IPv4 is disabled"},
		"no configuration":    {network.CreateRequest{Name: "n", ConfigFrom: &network.ConfigReference{Network: "nope"}}, errdefs.IsNotFound, "nope"},
		"from a network":      {network.CreateRequest{Name: "n", ConfigFrom: &network.ConfigReference{Network: "there"}}, errdefs.IsPermissionDenied, "not a configuration"},
		"more than it":        {network.CreateRequest{Name: "n", ConfigFrom: &network.ConfigReference{Network: "shape"}, Options: map[string]string{"o": "1"}}, errdefs.IsPermissionDenied, "user supplied configurations"},
		"a bridge twice":      {network.CreateRequest{Name: "n", Options: map[string]string{bridgeName: "br0"}}, errdefs.IsPermissionDenied, "networks have same bridge name"},
	} {
		if _, err := s.Create(ctx, c.req); err == nil || !c.is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v (class %v), want %q", what, err, errdefs.Resolve(err), c.text)
		}
	}
	create(t, s, network.CreateRequest{Name: "n"}) // none of them kept the name
}

func TestConfigurations(t *testing.T) {
	s, _ := service(t)
	shape := create(t, s, network.CreateRequest{Name: "shape", ConfigOnly: true, Options: map[string]string{"o": "1"},
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.77.0.0/24"), Gateway: netip.MustParseAddr("10.77.0.1")}}}})
	create(t, s, network.CreateRequest{Name: "shaped", ConfigFrom: &network.ConfigReference{Network: "shape"}})
	n, err := s.Inspect(ctx, "shaped", "")
	if err != nil || n.IPAM.Config[0].Subnet.String() != "10.77.0.0/24" || n.Options["o"] != "1" || n.ConfigFrom.Network != "shape" {
		t.Errorf("as configured: %+v, %v", n, err)
	}
	if err := s.Remove(ctx, shape); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "in use by network shaped") {
		t.Errorf("a configuration in use: %v", err)
	}
	if _, err := s.Attach(ctx, spec.SandboxRequest{Container: "c", Endpoints: []spec.EndpointRequest{{Network: "shape"}}}); !errdefs.IsPermissionDenied(err) {
		t.Errorf("on a configuration: %v", err)
	}
}

func TestConnectAndDisconnect(t *testing.T) {
	s, l := service(t)
	for _, name := range []string{"back", "front"} {
		create(t, s, network.CreateRequest{Name: name})
	}
	req := spec.SandboxRequest{Container: "c0123456789abcdef", Name: "web", Hostname: "box", Ports: request.Ports, Endpoints: []spec.EndpointRequest{{Network: "front"}}}
	if _, err := s.Attach(ctx, req); err != nil {
		t.Fatal(err)
	}
	l.done = nil
	// "back" comes before "front": it gives the default route from now on, and the ports lead there.
	sb, err := s.Connect(ctx, req, spec.EndpointRequest{Network: "back", Aliases: []string{"db"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"attach", "route by back", "withdraw", "publish", "connect"}; !slices.Equal(l.done, want) {
		t.Errorf("steps %v, want %v", l.done, want)
	}
	ep := sb.Endpoints[1]
	if ep.Interface != "eth1" || !slices.Equal(ep.Names, []string{"web", "db", "c0123456789a", "box"}) {
		t.Errorf("endpoint %+v", ep)
	}
	if _, err := s.Connect(ctx, req, spec.EndpointRequest{Network: "back"}); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "endpoint with name web already exists in network back") {
		t.Errorf("twice: %v", err)
	}
	if _, err := s.Connect(ctx, req, spec.EndpointRequest{Network: "none"}); !errdefs.IsPermissionDenied(err) {
		t.Errorf("none beside others: %v", err)
	}
	// With a higher priority the default route moves again.
	create(t, s, network.CreateRequest{Name: "zone"})
	l.done = nil
	if _, err = s.Connect(ctx, req, spec.EndpointRequest{Network: "zone", GwPriority: 1}); err != nil || !slices.Contains(l.done, "route by zone") {
		t.Errorf("a higher priority: %v, %v", l.done, err)
	}
	l.done = nil
	sb, err = s.Disconnect(ctx, req, "zone", false)
	if want := []string{"withdraw", "publish", "unplug", "route by back", "detach", "disconnect"}; err != nil || !slices.Equal(l.done, want) || len(sb.Endpoints) != 2 {
		t.Errorf("disconnected: %v, %v; want %v", l.done, err, want)
	}
	if _, err := s.Disconnect(ctx, req, "zone", false); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "is not connected to network zone") {
		t.Errorf("twice: %v", err)
	}
	if err := s.Remove(ctx, "zone"); err != nil {
		t.Errorf("left by all: %v", err)
	}
	for _, name := range []string{"front", "back"} {
		if sb, err = s.Disconnect(ctx, req, name, false); err != nil {
			t.Fatal(err)
		}
	}
	if len(sb.Endpoints) != 0 || len(sb.Ports) != 0 || l.done[len(l.done)-3] != "no route" {
		t.Errorf("on no network: %+v %v", sb, l.done)
	}
	l.done = nil
	if sb, err = s.Connect(ctx, req, spec.EndpointRequest{Network: "back"}); err != nil || len(sb.Ports) != 1 || sb.Endpoints[0].Interface != "eth0" {
		t.Errorf("back again: %+v, %v", sb, err)
	}
}

func TestFailedConnectIsUndone(t *testing.T) {
	for fail, want := range map[string][]string{
		"attach":        {"attach"},
		"route by back": {"attach", "route by back", "unplug", "detach"},
		"publish":       {"attach", "route by back", "withdraw", "publish", "publish", "route by front", "unplug", "detach"},
	} {
		s, l := service(t)
		for _, name := range []string{"back", "front"} {
			create(t, s, network.CreateRequest{Name: name})
		}
		req := spec.SandboxRequest{Container: "c", Name: "web", Ports: request.Ports, Endpoints: []spec.EndpointRequest{{Network: "front"}}}
		if _, err := s.Attach(ctx, req); err != nil {
			t.Fatal(err)
		}
		l.done, l.fail = nil, fail
		if _, err := s.Connect(ctx, req, spec.EndpointRequest{Network: "back"}); err == nil {
			t.Errorf("%s failing: no error", fail)
		}
		if !slices.Equal(l.done, want) {
			t.Errorf("%s failing: steps %v, want %v", fail, l.done, want)
		}
		l.fail = ""
		if err := s.Remove(ctx, "back"); err != nil {
			t.Errorf("%s failing: the network is in use: %v", fail, err)
		}
	}
}

func TestEndpointsRefused(t *testing.T) {
	s, _ := service(t)
	a := netip.MustParseAddr
	create(t, s, network.CreateRequest{Name: "chosen", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.77.0.0/24"), Gateway: a("10.77.0.1")}}}})
	for what, c := range map[string]struct {
		want spec.EndpointRequest
		text string
	}{
		"an address on the default network": {spec.EndpointRequest{Network: "bridge", IPv4: a("172.17.0.9")}, "user defined networks only"},
		"an alias on the default network":   {spec.EndpointRequest{Network: "bridge", Aliases: []string{"x"}}, "aliases are only supported for user-defined"},
		"an address elsewhere":              {spec.EndpointRequest{Network: "chosen", IPv4: a("10.78.0.9")}, "no configured subnet contains IP address 10.78.0.9"},
		"no unicast address":                {spec.EndpointRequest{Network: "chosen", IPv4: a("224.0.0.1")}, "invalid IP address 224.0.0.1"},
		"not link-local":                    {spec.EndpointRequest{Network: "chosen", LinkLocal: []netip.Addr{a("10.77.0.9")}}, "invalid link-local"},
	} {
		if err := s.Check(ctx, spec.SandboxRequest{Endpoints: []spec.EndpointRequest{c.want}}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, o := range []map[string]string{{optInterface: "a/b"}, {optInterface: "lo"}, {optInterface: "sixteencharacter"}, {optSysctls: "kernel.x=1"}, {optSysctls: "net.ipv4.conf.eth0.x=1"}, {optSysctls: "net.ipv4.conf.IFNAME.x"}} {
		if _, err := s.Attach(ctx, spec.SandboxRequest{Container: "c", Endpoints: []spec.EndpointRequest{{Network: "chosen", DriverOpts: o}}}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("options %v: %v", o, err)
		}
	}
}

func TestFilters(t *testing.T) {
	s, _ := service(t)
	create(t, s, network.CreateRequest{Name: "used", Labels: map[string]string{"team": "a"}})
	create(t, s, network.CreateRequest{Name: "idle", Labels: map[string]string{"team": "b"}})
	if _, err := s.Attach(ctx, spec.SandboxRequest{Container: "c", Endpoints: []spec.EndpointRequest{{Network: "used"}}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args filters.Args
		want string
	}{
		{filters.Args{"type": {"custom"}}, "used idle"}, {filters.Args{"type": {"builtin"}}, "bridge host none"}, {filters.Args{"label": {"team=a"}}, "used"},
		{filters.Args{"dangling": {"true"}}, "idle"}, {filters.Args{"dangling": {"false"}}, "bridge host none used"}, {filters.Args{"name": {"dl"}}, "idle"}, {filters.Args{"scope": {"swarm"}}, ""},
	} {
		list, err := s.List(ctx, c.args)
		var names []string
		for _, n := range list {
			names = append(names, n.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != c.want {
			t.Errorf("%v: %q, %v; want %q", c.args, got, err, c.want)
		}
	}
	rep, err := s.Prune(ctx, filters.Args{"label!": {"team=b"}})
	if err != nil || len(rep.NetworksDeleted) != 0 {
		t.Errorf("pruned %v, %v", rep.NetworksDeleted, err)
	}
	if rep, err = s.Prune(ctx, nil); err != nil || !slices.Equal(rep.NetworksDeleted, []string{"idle"}) {
		t.Errorf("pruned %v, %v", rep.NetworksDeleted, err)
	}
}
