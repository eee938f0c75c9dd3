package notes

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/spec"
)

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestUnfinished(t *testing.T) {
	u := Unfinished{Dir: filepath.Join(t.TempDir(), "a", "b")}
	same(t, "before the first", []string{}, u.Containers())
	for _, err := range []error{u.End("c1"), u.Begin("c1"), u.Begin("c1", "v1", "v2"), u.Begin("c1", "v3"), u.Begin("c2")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	same(t, "containers", []string{"c1", "c2"}, u.Containers())
	volumes, err := u.Volumes("c1")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "volumes", []string{"v1", "v2", "v3"}, volumes)
	if err := u.End("c1"); err != nil {
		t.Fatal(err)
	}
	same(t, "after the end", []string{"c2"}, u.Containers())
}

func TestOwners(t *testing.T) {
	o := Owners{Dir: filepath.Join(t.TempDir(), "a", "b")}
	for _, err := range []error{o.Drop("v1"), o.Set("v1", "c1"), o.Set("v2", "c1")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	same(t, "volumes", []string{"v1", "v2"}, o.Volumes())
	if id, err := o.Of("v1"); id != "c1" || err != nil {
		t.Errorf("owner %s, %v", id, err)
	}
	if err := o.Set("v1", "c2"); err == nil {
		t.Error("a volume has two owners")
	}
	if err := o.Drop("v1"); err != nil {
		t.Fatal(err)
	}
	same(t, "after one was dropped", []string{"v2"}, o.Volumes())
}

func TestExecs(t *testing.T) {
	x := Execs{Dir: filepath.Join(t.TempDir(), "exec")}
	x.Drop("e1")
	if err := x.Add("e1", container.ExecCreateRequest{Cmd: []string{"sh"}, Env: []string{"SECRET=1"}, Tty: true}); err != nil {
		t.Fatal(err)
	}
	same(t, "execs", []string{"e1"}, x.IDs())
	req, err := x.Read("e1")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "what is kept", container.ExecCreateRequest{Cmd: []string{"sh"}, Tty: true}, req)
	if _, err := x.Read("e2"); err == nil {
		t.Error("a note that is not there was read")
	}
}

func TestRun(t *testing.T) {
	b, err := Run{Sandbox: spec.Sandbox{ID: "s"}, Cgroup: spec.Cgroup{Path: "/c"}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if r := ReadRun(b); r == nil || r.Sandbox.ID != "s" || r.Cgroup.Path != "/c" {
		t.Errorf("%+v", r)
	}
	for _, none := range []string{"", "{"} {
		if r := ReadRun([]byte(none)); r != nil {
			t.Errorf("%q: %+v", none, r)
		}
	}
}
