package cgroup_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/gantry-engine/gantry/internal/driver/cgroup"
)

func gone(t *testing.T, dirs map[string]string, up int, want bool) {
	t.Helper()
	for name, dir := range dirs {
		for range up {
			dir = filepath.Dir(dir)
		}
		if _, err := os.Stat(dir); os.IsNotExist(err) != want {
			t.Errorf("%s: %s is gone: %v, want %v", name, dir, !want, want)
		}
	}
}

// Parents that were made for containers go with the last of them: one's own at once, the
// default one when the engine stops, be it another run of the daemon.
func TestParentsGoWithTheLastContainer(t *testing.T) {
	ctx := context.Background()
	cfg := cgroup.Config{Parent: "/gantry-test-parents/deep", Notes: filepath.Join(t.TempDir(), "parents")}
	d, err := cgroup.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	one, err := d.Create(ctx, "one", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.Create(ctx, "a", "/gantry-test-own/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Create(ctx, "b", "/gantry-test-own/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Destroy(ctx, a); err != nil {
		t.Error(err)
	}
	gone(t, b.Dirs, 0, false)
	if err := d.Close(); err != nil { // both parents are in use
		t.Error(err)
	}
	gone(t, b.Dirs, 1, false)
	gone(t, one.Dirs, 1, false)
	if d, err = cgroup.New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := d.Destroy(ctx, b); err != nil {
		t.Error(err)
	}
	gone(t, b.Dirs, 1, true)
	if err := d.Destroy(ctx, one); err != nil {
		t.Error(err)
	}
	gone(t, one.Dirs, 1, false)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	gone(t, one.Dirs, 1, true)
	gone(t, one.Dirs, 2, true)
	gone(t, b.Dirs, 2, true)
	again, err := d.Create(ctx, "again", "", nil) // closing forgets nothing that is needed
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Destroy(ctx, again); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	gone(t, again.Dirs, 2, true)
}

// A parent that was there before stays, whatever was in it.
func TestParentsOfOthersStay(t *testing.T) {
	ctx := context.Background()
	d, err := cgroup.New(cgroup.Config{Parent: "/gantry-test-others"})
	if err != nil {
		t.Fatal(err)
	}
	probe, err := d.Create(ctx, "probe", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Destroy(ctx, probe); err != nil {
		t.Fatal(err)
	}
	later, err := cgroup.New(cgroup.Config{Parent: "/gantry-test-others"}) // it finds the parent there
	if err != nil {
		t.Fatal(err)
	}
	c, err := later.Create(ctx, "c", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := later.Destroy(ctx, c); err != nil {
		t.Error(err)
	}
	if err := later.Close(); err != nil {
		t.Error(err)
	}
	gone(t, c.Dirs, 1, false)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	gone(t, c.Dirs, 1, true)
}
