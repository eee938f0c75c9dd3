package cgroup_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/driver/cgroup"
	"github.com/gantry-engine/gantry/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestLifeOfACgroup(t *testing.T) {
	d, err := cgroup.New(cgroup.Config{Parent: "/gantry-test-cgroup"})
	if err != nil {
		t.Fatal(err)
	}
	limit, pids := int64(64<<20), int64(17)
	ctx := context.Background()
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &pids}}
	cg, err := d.Create(ctx, "one", "", r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, dir := range cg.Dirs {
			_ = os.Remove(filepath.Dir(dir))
		}
	})
	u, err := d.Read(ctx, cg)
	if err != nil || u.MemoryLimit != uint64(limit) || u.PidsLimit != 17 {
		t.Errorf("limits read back: %+v, %v", u, err)
	}
	more := int64(99)
	if err := d.Update(ctx, cg, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &more}}); err != nil {
		t.Error(err)
	}
	if u, _ := d.Read(ctx, cg); u.PidsLimit != 99 || u.MemoryLimit != uint64(limit) {
		t.Errorf("after an update of pids: %d pids, %d bytes", u.PidsLimit, u.MemoryLimit)
	}
	if err := d.Freeze(ctx, cg, true); err != nil {
		t.Error(err)
	}
	if err := d.Freeze(ctx, cg, false); err != nil {
		t.Error(err)
	}
	if err := d.Destroy(ctx, cg); err != nil {
		t.Fatal(err)
	}
	for name, dir := range cg.Dirs {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: %s is left behind", name, dir)
		}
	}
	if err := d.Destroy(ctx, cg); err != nil {
		t.Errorf("destroying twice: %v", err)
	}
	if _, err := d.Pids(ctx, cg); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("pids of a cgroup that is gone: %v", err)
	}
}

func TestBadRequests(t *testing.T) {
	d, err := cgroup.New(cgroup.Config{Parent: "/gantry-test-cgroup-bad"})
	if err != nil {
		t.Fatal(err)
	}
	small := int64(1024)
	if _, err := d.Create(context.Background(), "x", "", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &small}}); err == nil || !strings.Contains(err.Error(), "too small") {
		t.Errorf("a tiny memory limit: %v", err)
	}
	if _, err := d.Create(context.Background(), "x", "/a/../../b", nil); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("a parent that climbs: %v", err)
	}
}
