package cgroup_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/driver/cgroup"
)

// A cgroup that was made ahead is like one that is made on demand, and none is left behind.
func TestSpares(t *testing.T) {
	const parent = "/gantry-test-spares"
	d, err := cgroup.New(cgroup.Config{Parent: parent})
	if err != nil {
		t.Fatal(err)
	}
	if d.V2() {
		t.Skip("there are no spares on cgroup v2: it has one directory, which cannot be renamed")
	}
	ctx := context.Background()
	pids, major, minor := int64(33), int64(1), int64(3)
	r := &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &pids}, Devices: []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"}, {Allow: true, Type: "c", Major: &major, Minor: &minor, Access: "rwm"}}}
	one, err := d.Create(ctx, "one", "", r)
	if err != nil {
		t.Fatal(err)
	}
	waiting := func() int {
		dirs, _ := filepath.Glob(filepath.Join(filepath.Dir(one.Dirs["pids"]), "spare-*"))
		return len(dirs)
	}
	for end := time.Now().Add(10 * time.Second); waiting() < 8; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no spares were made")
		}
	}
	two, err := d.Create(ctx, "two", "", r)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); waiting() < 8; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what was taken was not made up for")
		}
	}
	if len(one.Dirs) != len(two.Dirs) {
		t.Errorf("%d and %d controllers", len(one.Dirs), len(two.Dirs))
	}
	for name, file := range map[string]string{"pids": "pids.max", "devices": "devices.list", "cpuset": "cpuset.cpus"} {
		if one.Dirs[name] == "" {
			continue
		}
		a, errA := os.ReadFile(filepath.Join(one.Dirs[name], file))
		b, errB := os.ReadFile(filepath.Join(two.Dirs[name], file))
		if errA != nil || errB != nil || string(a) != string(b) || !strings.HasSuffix(two.Dirs[name], parent+"/two") {
			t.Errorf("%s: %q in %s (%v), %q in %s (%v)", file, a, one.Dirs[name], errA, b, two.Dirs[name], errB)
		}
	}
	// What a killed daemon leaves goes when the next one starts.
	if _, err := cgroup.New(cgroup.Config{Parent: parent}); err != nil || waiting() > 8 {
		t.Errorf("%d spares, error %v", waiting(), err)
	}
	if three, err := d.Create(ctx, "three", "", &specs.LinuxResources{}); err != nil {
		t.Error(err)
	} else if err := d.Destroy(ctx, three); err != nil {
		t.Error(err)
	}
	for _, cg := range []string{"one", "two"} {
		c := one
		if cg == "two" {
			c = two
		}
		if err := d.Destroy(ctx, c); err != nil {
			t.Error(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	for name, dir := range one.Dirs {
		if _, err := os.Stat(filepath.Dir(dir)); !os.IsNotExist(err) {
			t.Errorf("%s: %s is left behind", name, filepath.Dir(dir))
		}
	}
}
