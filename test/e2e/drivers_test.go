package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// script runs commands on the host of the test.
func script(t *testing.T, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if out, err := exec.Command("sh", "-c", l).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", l, err, out)
		}
	}
}

func ping(t *testing.T, e *testkit.Engine, from, to string) {
	t.Helper()
	if out, errs, code := e.Gantry("exec", from, "ping", "-c1", "-w5", to); code != 0 {
		t.Errorf("%s does not reach %s: %s%s", from, to, out, errs)
	}
}

// pair runs two containers on a network, has one more come to it, and the daemon killed between.
func pair(t *testing.T, e *testkit.Engine, network string) {
	t.Helper()
	for _, c := range []string{"ca", "cb"} {
		e.Must(t, "run", "-d", "--name", c, "--network", network, "bb", "sleep", "600")
	}
	e.Must(t, "run", "-d", "--name", "cc", "bb", "sleep", "600")
	ping(t, e, "ca", "cb")
	e.Kill()
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	ping(t, e, "cb", "ca")
	e.Must(t, "network", "connect", network, "cc")
	ping(t, e, "cc", "ca")
	e.Must(t, "network", "disconnect", network, "cc")
	e.Must(t, "rm", "-f", "ca", "cb", "cc")
	e.Must(t, "network", "rm", network)
}

func TestMacvlan(t *testing.T) {
	script(t, "ip link add mlan0 type veth peer name mlan1", "ip link set mlan0 up", "ip link set mlan1 up")
	t.Cleanup(func() { script(t, "ip link del mlan0") })
	e := engine(t)
	e.Must(t, "network", "create", "-d", "macvlan", "--subnet", "10.233.1.0/24", "-o", "parent=mlan0", "lan")
	pair(t, e, "lan")
	fails(t, e, 1, []string{"loopback interface is not a valid macvlan parent link"}, "network", "create", "-d", "macvlan", "-o", "parent=lo", "x")
	fails(t, e, 1, []string{`plugin "weaver" not found`, "weaver.sock"}, "network", "create", "-d", "weaver", "x")
}

func TestVxlan(t *testing.T) {
	script(t, "ip link add vlan0 type veth peer name vlan1", "ip link set vlan0 up", "ip link set vlan1 up", "ip addr add 10.233.9.1/24 dev vlan0")
	t.Cleanup(func() { script(t, "ip link del vlan0") })
	e := engine(t)
	e.Must(t, "network", "create", "-d", "vxlan", "--subnet", "10.233.2.0/24", "-o", "vni=7", "-o", "peers=10.233.9.2", "shared")
	pair(t, e, "shared")
	fails(t, e, 1, []string{"invalid value for vni"}, "network", "create", "-d", "vxlan", "x")
}

func TestCNI(t *testing.T) {
	// What is written below /etc stays here.
	over := "/dev/shm/" + filepath.Base(testkit.ShortTempDir(t))
	for _, d := range []string{"up", "work"} {
		if err := os.MkdirAll(filepath.Join(over, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.RemoveAll(over) })
	if err := unix.Mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir="+over+"/up,workdir="+over+"/work"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount("/etc", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := os.MkdirAll("/etc/cni/net.d", 0o755); err != nil {
		t.Fatal(err)
	}
	list := `{"cniVersion": "1.0.0", "name": "house", "plugins": [
		{"type": "bridge", "bridge": "cnitest0", "isDefaultGateway": true, "ipam": {"type": "host-local", "dataDir": "` + over + `/ipam", "ranges": [[{"subnet": "10.233.3.0/24"}]]}},
		{"type": "portmap", "capabilities": {"portMappings": true}}]}`
	if err := os.WriteFile("/etc/cni/net.d/10-house.conflist", []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", "cnitest0").Run() })
	e := engine(t)
	e.Must(t, "network", "create", "-d", "cni", "-o", "conflist=house", "house")
	if got := e.Must(t, "network", "inspect", "-f", "{{.Driver}} {{.IPAM.Driver}} {{.Options.conflist}}", "house"); strings.TrimSpace(got) != "cni null house" {
		t.Errorf("the network is %q", got)
	}
	e.Must(t, "run", "-d", "--name", "web", "--network", "house", "-p", "18093:80", "bb", "sh", "-c", "while :; do printf 'HTTP/1.0 200 OK\r\n\r\nhouse' | nc -l -p 80; done")
	if got := e.Must(t, "port", "web"); !strings.Contains(got, "80/tcp -> 0.0.0.0:18093") {
		t.Errorf("its ports: %q", got)
	}
	e.Must(t, "rm", "-f", "web")
	pair(t, e, "house")
}
