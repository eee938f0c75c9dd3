package networkkind

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Wire gives the host an interface that leads to another host, whose namespace it returns with its interface "far0" up.
func Wire(t *testing.T, name string) *os.File {
	t.Helper()
	far, err := netlink.NewNamespace(netlink.LoopbackUp)
	if err != nil {
		t.Fatal(err)
	}
	IP(t, nil, "link add "+name+" type veth peer name far0")
	c, err := netlink.OpenOwn(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l, err := c.Link("far0")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MoveTo(l.Index, far, "far0"); err != nil {
		t.Fatal(err)
	}
	IP(t, nil, "link set "+name+" up")
	IP(t, far, "link set far0 up")
	t.Cleanup(func() {
		_ = far.Close()
		_ = exec.Command("ip", "link", "del", name).Run() // not there any more in some tests
	})
	return far
}

// IP runs the ip command in a namespace, nil for the host's, and gives its output.
func IP(t *testing.T, ns *os.File, args string) string {
	t.Helper()
	var out []byte
	run := func() (err error) {
		out, err = exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		return err
	}
	err := error(nil)
	if ns == nil {
		err = run()
	} else {
		err = netlink.Do(ns, run)
	}
	if err != nil {
		t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
	return string(out)
}

// Needs tells whether the kernel has interfaces of a kind. Without them a test is skipped; in the virtual machine, whose
// kernel has them, it fails.
func Needs(t *testing.T, kind, args string) {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields("link add probe0 "+args)...).CombinedOutput()
	if err == nil {
		IP(t, nil, "link del probe0")
		return
	}
	if os.Getenv("GANTRY_VM") != "" {
		t.Fatalf("the kernel has no %s interfaces: %s", kind, out)
	}
	t.Skipf("this kernel has no %s interfaces; the test runs in make test-vm: %s", kind, out)
}
