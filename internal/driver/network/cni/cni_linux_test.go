package cni

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/networkkind"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var ctx = context.Background()

// house is a host's folders, with a list of Debian's plugins called "lan".
type house struct{ conf, data, state string }

func newHouse(t *testing.T) house {
	t.Helper()
	h := house{t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "state")}
	h.write(t, "10-lan.conflist", fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "lan", "plugins": [
		{"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "capabilities": {"ips": true, "mac": true},
		 "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]]}},
		{"type": "portmap", "capabilities": {"portMappings": true}}]}`, h.data))
	// The plugin would make it, and leave it.
	networkkind.IP(t, nil, "link add cni0 type bridge")
	networkkind.IP(t, nil, "link set cni0 up")
	networkkind.IP(t, nil, "addr add 10.77.0.1/24 dev cni0")
	networkkind.IP(t, nil, "addr add fd77::1/64 dev cni0 nodad")
	t.Cleanup(func() {
		if !networkkind.Wait(func() bool { notes, _ := filepath.Glob(filepath.Join(h.state, "*.json")); return len(notes) == 0 }) {
			t.Error("notes are left")
		}
		networkkind.IP(t, nil, "link del cni0")
		if taken, _ := filepath.Glob(filepath.Join(h.data, "lan", "[1-9f]*.*")); len(taken) > 0 && !strings.Contains(taken[0], "last_reserved") {
			t.Errorf("the plugins still have %v", taken)
		}
	})
	return h
}

func (h house) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.conf, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h house) kind() Kind { return Kind{Conf: h.conf, State: h.state} }

func TestConformance(t *testing.T) {
	var h house
	networkkind.Suite{
		Column: "cni", Own: true, Kind: func() networks.Kind { return h.kind() }, Options: map[string]string{"conflist": "lan"},
		Before: func(t *testing.T) { h = newHouse(t) },
	}.Run(t)
}

func open(t *testing.T, k Kind, options map[string]string) (networks.Driver, error) {
	t.Helper()
	n := spec.Network{ID: strings.Repeat("ab", 32), Name: "net", EnableIPv4: true, Options: options}
	if err := k.Settle(&n); err != nil {
		return nil, err
	}
	if n.IPAM.Driver != "null" || n.Options["conflist"] == "" {
		t.Errorf("settled as %+v", n)
	}
	d, err := k.New(n, networks.Space{})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = d.Close(ctx, true) })
	return d, d.Open(ctx)
}

// TestPublished is a port that the list's portmap opens, and closes with the container.
func TestPublished(t *testing.T) {
	d, err := open(t, newHouse(t).kind(), nil) // the only list
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.Attach(ctx, networks.Join{Interface: "eth0", Ports: []spec.Port{{Proto: "tcp", ContainerPort: 80, HostPort: 18081}}})
	if err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	if err := netlink.Do(a.NetNS, func() (err error) { l, err = net.Listen("tcp4", ":80"); return err }); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "here")
			_ = c.Close()
		}
	}()
	far := networkkind.Wire(t, "lan0")
	networkkind.IP(t, nil, "addr add 10.90.0.1/24 dev lan0")
	networkkind.IP(t, far, "addr add 10.90.0.2/24 dev far0")
	if err := netlink.WriteSysctl("net.ipv4.ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	ask := func() (text string, err error) {
		err = netlink.Do(far, func() error {
			c, err := net.DialTimeout("tcp4", "10.90.0.1:18081", 3*time.Second)
			if err != nil {
				return err
			}
			defer c.Close()
			all, err := io.ReadAll(c)
			text = string(all)
			return err
		})
		return text, err
	}
	if got, err := ask(); got != "here" {
		t.Errorf("from another host: %q, %v", got, err)
	}
	_, _ = l.Close(), a.NetNS.Close()
	if err := d.Detach(ctx, a.Endpoint); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(); err == nil {
		t.Errorf("after the container's end: %q", got)
	}
}

func TestWhatIsWrong(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct {
		what    string
		network spec.Network
		is      func(error) bool
		text    string
	}{
		{"a list that is not there", spec.Network{Options: map[string]string{"conflist": "wan"}}, errdefs.IsNotFound, "there is no CNI network wan in " + h.conf},
		{"subnets", spec.Network{Pools: []spec.Pool{{Subnet: netip.MustParsePrefix("10.0.0.0/24")}}}, errdefs.IsInvalidArgument, "subnets and address drivers cannot be chosen"},
		{"an internal network", spec.Network{Internal: true}, errdefs.IsInvalidArgument, "cannot be internal"},
		{"a plugin that is not there", spec.Network{Options: map[string]string{"conflist": "odd"}}, errdefs.IsInvalidArgument, `failed to find plugin "no-such-plugin"`},
		{"no list of several", spec.Network{}, errdefs.IsInvalidArgument, "has 3: lan, odd, slow"},
	} {
		h.write(t, "20-odd.conflist", `{"cniVersion": "1.0.0", "name": "odd", "plugins": [{"type": "no-such-plugin"}]}`)
		h.write(t, "30-slow.conflist", `{"cniVersion": "1.0.0", "name": "slow", "plugins": [{"type": "slow"}]}`)
		if err := h.kind().Settle(&c.network); !c.is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v; want %q", c.what, err, c.text)
		}
	}
	d, err := open(t, h.kind(), map[string]string{"conflist": "lan"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Attach(ctx, networks.Join{Interface: "eth0", Ports: []spec.Port{{Proto: "tcp", ContainerPort: 80}}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a port that the plugins would have to choose: %v", err)
	}
	if err := os.WriteFile(filepath.Join(h.conf, "40-broken.conflist"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := d.Attach(ctx, networks.Join{Interface: "eth0"})
	if err == nil {
		defer a.NetNS.Close()
		if err := d.Detach(ctx, a.Endpoint); err != nil {
			t.Error(err)
		}
	}
}

// TestPluginsMisbehave: one that hangs is ended, one that answers garbage is told of. Nothing is left.
func TestPluginsMisbehave(t *testing.T) {
	h := newHouse(t)
	bin := t.TempDir()
	k := h.kind()
	k.Bin, k.Patience = []string{bin}, time.Second
	for name, c := range map[string]struct{ add, text string }{
		"slow":    {"exec sleep 60", "ADD: no end within 1s"},
		"garbage": {"echo hello", "CNI network garbage: ADD"},
		"refuses": {`echo '{"cniVersion":"1.0.0","code":11,"msg":"no room"}'; exit 1`, "no room"},
		"lies":    {`echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"address":"10.9.9.9/24","interface":7}]}'`, "it does not take chosen addresses"},
	} {
		t.Run(name, func(t *testing.T) {
			script := "#!/bin/sh\ncat >/dev/null\ncase $CNI_COMMAND in\nVERSION) echo '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"1.0.0\"]}';;\nADD) " + c.add + ";;\nesac\n"
			if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			h.write(t, name+".conflist", fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %q, "plugins": [{"type": %q}]}`, name, name))
			d, err := open(t, k, map[string]string{"conflist": name})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Attach(ctx, networks.Join{Interface: "eth0", IPv4: netip.MustParseAddr("10.77.0.5")}); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v; want %q", err, c.text)
			}
		})
	}
}

// TestListGone: a container's end is the plugins' also when their list is gone or another by then.
func TestListGone(t *testing.T) {
	h := newHouse(t)
	d, err := open(t, h.kind(), map[string]string{"conflist": "lan"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.Attach(ctx, networks.Join{Interface: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(h.conf, "10-lan.conflist")); err != nil {
		t.Fatal(err)
	}
	if b, err := d.Attach(ctx, networks.Join{Interface: "eth0"}); !errdefs.IsNotFound(err) {
		t.Errorf("without its list: %+v, %v", b, err)
	}
	_ = a.NetNS.Close()
	if err := d.Detach(ctx, a.Endpoint); err != nil {
		t.Error(err)
	}
}
