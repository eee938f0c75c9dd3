package vxlan

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/driver/network/bridge"
	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
	"github.com/gantry-engine/gantry/internal/testkit"
	"github.com/gantry-engine/gantry/internal/testkit/networkkind"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var ctx = context.Background()

func TestConformance(t *testing.T) {
	networkkind.Suite{
		Column: "vxlan", Kind: func() networks.Kind { return Kind{bridge.Kind{Engine: "judged", PoolSize: 4}} },
		Options: map[string]string{"vni": "77", "local": "10.90.0.1", "peers": "10.90.0.2"},
		Before: func(t *testing.T) {
			networkkind.Wire(t, "lan0")
			networkkind.IP(t, nil, "addr add 10.90.0.1/24 dev lan0")
		},
	}.Run(t)
}

// settled is a network as the service makes it.
func settled(k Kind, id string, options map[string]string) (spec.Network, error) {
	n := spec.Network{
		ID: strings.Repeat(id, 32), Name: "net", EnableIPv4: true, Options: options,
		Pools: []spec.Pool{{Subnet: netip.MustParsePrefix("10.66.0.0/24"), Gateway: netip.MustParseAddr("10.66.0.1")}},
	}
	return n, k.Settle(&n)
}

// engine is one host's driver of the network; containers get addresses as said. It runs in the host's namespace.
func engine(t *testing.T, host *os.File, options map[string]string) (networks.Driver, error) {
	t.Helper()
	in := func(do func() error) error {
		if host == nil {
			return do()
		}
		return netlink.Do(host, do)
	}
	var d networks.Driver
	err := in(func() error {
		k := Kind{bridge.Kind{Engine: "e"}}
		n, err := settled(k, "ab", options)
		if err != nil {
			return err
		}
		space, err := ipam.NewSpace(n.Pools)
		if err != nil {
			return err
		}
		if d, err = k.New(n, networks.Space{V4: space}); err != nil {
			return err
		}
		return d.Open(ctx)
	})
	if d != nil {
		t.Cleanup(func() {
			if cerr := in(func() error { return d.Close(ctx, true) }); cerr != nil {
				t.Error(cerr)
			}
		})
	}
	return d, err
}

func container(t *testing.T, d networks.Driver, address string) *os.File {
	t.Helper()
	a, err := d.Attach(ctx, networks.Join{Interface: "eth0", IPv4: netip.MustParseAddr(address)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.NetNS.Close() })
	return a.NetNS
}

// twoHosts are this one and another, on one link.
func twoHosts(t *testing.T) (far *os.File) {
	t.Helper()
	far = networkkind.Wire(t, "lan0")
	networkkind.IP(t, nil, "addr add 10.90.0.1/24 dev lan0")
	networkkind.IP(t, far, "addr add 10.90.0.2/24 dev far0")
	return far
}

// marker is what is sent between containers and looked for between hosts.
var marker = []byte("a word that is not to be read")

// eavesdrop counts the packets between the hosts that have the marker, and those that are ESP.
func eavesdrop(t *testing.T) (plain, esp *atomic.Int64) {
	t.Helper()
	plain, esp = &atomic.Int64{}, &atomic.Int64{}
	i, err := net.InterfaceByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-done; _ = unix.Close(fd) })
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				continue
			}
			if bytes.Contains(buf[:n], marker) {
				plain.Add(1)
			}
			if n > 23 && buf[12] == 8 && buf[23] == unix.IPPROTO_ESP {
				esp.Add(1)
			}
		}
	}()
	return plain, esp
}

// say sends a lot from one container to another, which answers with how much has come.
func say(t *testing.T, from, to *os.File, at string) {
	t.Helper()
	var l net.Listener
	if err := netlink.Do(to, func() (err error) { l, err = net.Listen("tcp4", at+":0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	came := make(chan int, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			came <- -1
			return
		}
		all, _ := io.ReadAll(c)
		_ = c.Close()
		came <- len(all)
	}()
	text := bytes.Repeat(marker, 20_000) // many packets of full size
	if err := netlink.Do(from, func() error {
		c, err := net.DialTimeout("tcp4", l.Addr().String(), 10*time.Second)
		if err != nil {
			return err
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Write(text); err != nil {
			return err
		}
		return c.Close()
	}); err != nil {
		t.Errorf("from host to host: %v", err)
		return
	}
	if n := <-came; n != len(text) {
		t.Errorf("%d bytes came, %d were sent", n, len(text))
	}
}

func TestTwoHosts(t *testing.T) {
	far := twoHosts(t)
	plain, _ := eavesdrop(t)
	here, err := engine(t, nil, map[string]string{"vni": "42", "peers": "10.90.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	there, err := engine(t, far, map[string]string{"vni": "42", "peers": "10.90.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	a, b := container(t, here, "10.66.0.10"), container(t, there, "10.66.0.20")
	say(t, a, b, "10.66.0.20")
	say(t, b, a, "10.66.0.10")
	if plain.Load() == 0 {
		t.Error("nothing was seen between the hosts: the eavesdropper is deaf")
	}
	if mtu := networkkind.IP(t, a, "link show eth0"); !strings.Contains(mtu, "mtu 1450 ") {
		t.Errorf("the container's interface: %s", mtu)
	}
	// Each host is its containers' gateway.
	for _, c := range []*os.File{a, b} {
		if out := networkkind.IP(t, c, "route get 8.8.8.8"); !strings.Contains(out, "via 10.66.0.1 ") {
			t.Errorf("the way out: %s", out)
		}
	}
}

// TestAnotherNetworksNumber: hosts that do not agree do not meet.
func TestAnotherNetworksNumber(t *testing.T) {
	far := twoHosts(t)
	here, err := engine(t, nil, map[string]string{"vni": "42", "peers": "10.90.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	there, err := engine(t, far, map[string]string{"vni": "43", "peers": "10.90.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	a, b := container(t, here, "10.66.0.10"), container(t, there, "10.66.0.20")
	if !networkkind.Silent(a, b, netip.MustParseAddr("10.66.0.20")) {
		t.Error("containers of different networks reach each other")
	}
}

const key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// encrypts tells whether the kernel does; without that a test is skipped, in the virtual machine it fails.
func encrypts(t *testing.T) bool {
	t.Helper()
	out, err := exec.Command("ip", "xfrm", "state", "add", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "0x1000", "mode", "transport",
		"enc", "cbc(aes)", "0x"+key, "auth-trunc", "hmac(sha256)", "0x"+key, "128").CombinedOutput()
	if err != nil && os.Getenv("GANTRY_VM") != "" {
		t.Fatalf("the kernel cannot encrypt: %s", out)
	}
	if err == nil {
		networkkind.IP(t, nil, "xfrm state deleteall")
	}
	return err == nil
}

func TestEncrypted(t *testing.T) {
	far := twoHosts(t)
	options := func(peer, key string) map[string]string {
		return map[string]string{"vni": "42", "peers": peer, "encrypted": "", "key": key}
	}
	if !encrypts(t) {
		_, err := engine(t, nil, options("10.90.0.2", key))
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "this kernel cannot encrypt packets") {
			t.Errorf("on a kernel that cannot encrypt: %v", err)
		}
		t.Skip("this kernel cannot encrypt packets; the test runs in make test-vm")
	}
	plain, esp := eavesdrop(t)
	here, err := engine(t, nil, options("10.90.0.2", key))
	if err != nil {
		t.Fatal(err)
	}
	there, err := engine(t, far, options("10.90.0.1", key))
	if err != nil {
		t.Fatal(err)
	}
	a, b := container(t, here, "10.66.0.10"), container(t, there, "10.66.0.20")
	say(t, a, b, "10.66.0.20")
	say(t, b, a, "10.66.0.10")
	if plain.Load() > 0 || esp.Load() == 0 {
		t.Errorf("between the hosts %d packets could be read, %d were encrypted", plain.Load(), esp.Load())
	}
	if mtu := networkkind.IP(t, a, "link show eth0"); !strings.Contains(mtu, "mtu 1408 ") {
		t.Errorf("the container's interface: %s", mtu)
	}
	// A host that knows the addresses, but not the key.
	if err := netlink.Do(far, func() error { return there.Close(ctx, true) }); err != nil {
		t.Fatal(err)
	}
	if left := networkkind.IP(t, far, "xfrm state") + networkkind.IP(t, far, "xfrm policy"); strings.Contains(left, "esp") || strings.Contains(left, "4789") {
		t.Errorf("of a removed network there is still: %s", left)
	}
	for what, other := range map[string]map[string]string{"another key": options("10.90.0.1", strings.Repeat("ff", 32)), "no key": {"vni": "42", "peers": "10.90.0.1"}} {
		thief, err := engine(t, far, other)
		if err != nil {
			t.Fatal(err)
		}
		c := container(t, thief, "10.66.0.30")
		if !networkkind.Silent(c, a, netip.MustParseAddr("10.66.0.10")) {
			t.Errorf("a host with %s gets in", what)
		}
		if err := netlink.Do(far, func() error { return thief.Close(ctx, true) }); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsWrong(t *testing.T) {
	twoHosts(t)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, options := range map[string]map[string]string{
		"the number of the network":                    {"peers": "10.90.0.2"},
		"1 to 16777215":                                {"vni": "16777216", "peers": "10.90.0.2"},
		"the addresses of the other hosts":             {"vni": "1"},
		"addresses of other hosts are needed":          {"vni": "1", "peers": "there"},
		"it is named twice":                            {"vni": "1", "peers": "10.90.0.2,10.90.0.2"},
		"addresses of one family":                      {"vni": "1", "peers": "10.90.0.2,fd00::1"},
		"it is no address of this host":                {"vni": "1", "peers": "10.90.0.2", "local": "10.90.0.9"},
		"it is this host itself":                       {"vni": "1", "peers": "10.90.0.1", "local": "10.90.0.1"},
		"a UDP port is needed":                         {"vni": "1", "peers": "10.90.0.2", "port": "70000"},
		"packets between the hosts leave room for 145": {"vni": "1", "peers": "10.90.0.2", "com.docker.network.driver.mtu": "1500"},
		"an encrypted network needs a key":             {"vni": "1", "peers": "10.90.0.2", "encrypted": "true"},
		"true or false is needed":                      {"vni": "1", "peers": "10.90.0.2", "encrypted": "perhaps"},
		"is not 64 hexadecimal digits":                 {"vni": "1", "peers": "10.90.0.2", "encrypted": "", "key-file": file},
		"reading the key of an encrypted network":      {"vni": "1", "peers": "10.90.0.2", "encrypted": "", "key-file": file + "~"},
	} {
		if _, err := settled(Kind{}, "cd", options); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: %v; want %q", options, err, text)
		}
	}
	if _, err := engine(t, nil, map[string]string{"vni": "1", "peers": "10.90.0.2"}); err != nil {
		t.Fatal(err)
	}
	k := Kind{bridge.Kind{Engine: "e"}}
	n, err := settled(k, "ef", map[string]string{"vni": "1", "peers": "10.90.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := k.New(n, networks.Space{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Open(ctx); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "has vni 1 at port 4789") {
		t.Errorf("a number that is taken: %v", err)
	}
	if err := d.Close(ctx, true); err != nil {
		t.Error(err)
	}
}

// TestBothEndsAgree on the keys, each direction has its own.
func TestBothEndsAgree(t *testing.T) {
	psk, _ := hex.DecodeString(key)
	x, y := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	a, err := options{vni: 5, port: 4789, local: x, key: psk}.secure(y)
	if err != nil {
		t.Fatal(err)
	}
	b, err := options{vni: 5, port: 4789, local: y, key: psk}.secure(x)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Out.Crypt, b.In.Crypt) || !bytes.Equal(a.In.Auth, b.Out.Auth) || a.Out.SPI != b.In.SPI || bytes.Equal(a.Out.Crypt, a.In.Crypt) || a.Out.SPI < 256 || len(a.Out.Crypt) != 32 || len(a.Out.Auth) != 32 {
		t.Errorf("the two ends: %+v, %+v", a, b)
	}
	for _, c := range []struct {
		ipv6, encrypted bool
		want            int
	}{{false, false, 1450}, {true, false, 1430}, {false, true, 1408}, {true, true, 1376}} {
		if got := largest(1500, c.ipv6, c.encrypted); got != c.want {
			t.Errorf("IPv6 %v, encrypted %v: %d bytes are left of 1500, not %d", c.ipv6, c.encrypted, got, c.want)
		}
	}
}
