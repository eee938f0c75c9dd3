package runtime_test

import (
	"os"
	"strconv"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/sys/cgroup"
	"github.com/gantry-engine/gantry/runtime"
)

// A process is in its cgroup before it can open anything: what the device rules deny is denied, with the
// node there and with a node that the container made itself.
func TestDeviceRules(t *testing.T) {
	host, err := cgroup.Discover()
	if err != nil {
		t.Fatal(err)
	}
	path := "/gantry-test-" + strconv.Itoa(os.Getpid())
	dirs, err := host.Make(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cgroup.Destroy(dirs); err != nil {
			t.Error(err)
		}
	})
	limits, err := cgroup.Resources(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Major: ptrTo(int64(240)), Minor: ptrTo(int64(1)), Access: "rwm"},
		{Allow: true, Type: "c", Major: ptrTo(int64(240)), Minor: ptrTo(int64(2)), Access: "r"},
		{Allow: true, Type: "b", Major: ptrTo(int64(240)), Access: "w"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := cgroup.Manager(path, dirs, false, limits)
	if err == nil {
		err = m.Set(limits)
	}
	if err != nil {
		t.Fatal(err)
	}
	init, root := initFile(t), rootfs(t)
	// Nothing drives these devices: what is allowed fails later, with another error.
	s := configuration(t, root, "sh", "-c", `try() { if "$@" 2>&1 | grep -q "not permitted"; then echo "$* denied"; else echo "$* allowed"; fi; }
read1() { head -c1 $1; }; write1() { echo x >$1; }; cd /tmp
for n in 1 2 3; do mknod c$n c 240 $n; done; mknod b9 b 240 9
for d in c1 c2 c3 b9 /dev/own /dev/null /dev/urandom; do try read1 $d; try write1 $d; done`)
	s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/own", Type: "c", Major: 240, Minor: 3}}
	res := run(t, init, s, runtime.Options{Tasks: cgroup.Tasks(dirs), CgroupV2: dirs[""]})
	want := "read1 c1 allowed\nwrite1 c1 allowed\nread1 c2 allowed\nwrite1 c2 denied\nread1 c3 denied\nwrite1 c3 denied\nread1 b9 denied\nwrite1 b9 allowed\n" +
		"read1 /dev/own denied\nwrite1 /dev/own denied\nread1 /dev/null allowed\nwrite1 /dev/null allowed\nread1 /dev/urandom allowed\nwrite1 /dev/urandom allowed\n"
	if res.err != nil || res.out != want {
		t.Errorf("error %v, output %q, want %q", res.err, res.out, want)
	}
}
