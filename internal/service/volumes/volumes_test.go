package volumes

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/spec"
)

// fake stands for all ports and writes down what was done, in order.
type fake struct {
	records   map[string][]byte
	log       []string
	saveErr   error
	forgetErr error
}

func (f *fake) did(s ...string) { f.log = append(f.log, strings.Join(s, " ")) }
func (f *fake) Save(_ context.Context, n string, r []byte) error {
	f.did("save", n)
	if f.saveErr != nil {
		return f.saveErr
	}
	f.records[n] = r
	return nil
}

type recs struct{ *fake }

func (r recs) Remove(_ context.Context, n string) error {
	r.did("forget", n)
	if r.forgetErr != nil {
		return r.forgetErr
	}
	delete(r.records, n)
	return nil
}
func (r recs) All(context.Context) iter.Seq2[string, []byte] { return maps.All(r.records) }

func (f *fake) half(what, n string) (keep, undo func() error, err error) {
	f.did(what, n)
	return func() error { f.did("keep " + what); return nil }, func() error { f.did("undo " + what); return nil }, nil
}

func (f *fake) Create(_ context.Context, n string, _ map[string]string) (keep, undo func() error, err error) {
	return f.half("mkdir", n)
}

func (f *fake) Remove(_ context.Context, n string) (keep, undo func() error, err error) {
	return f.half("rmdir", n)
}

func (f *fake) Mount(_ context.Context, n string, _ map[string]string) error {
	f.did("mount", n)
	return nil
}
func (f *fake) Unmount(_ context.Context, n string) error                   { f.did("unmount", n); return nil }
func (f *fake) Path(n string) string                                        { return "/v/" + n }
func (f *fake) Validate(map[string]string) error                            { return nil }
func (f *fake) Populate(context.Context, string, spec.Rootfs, string) error { return nil }
func (f *fake) Size(context.Context, string) (int64, error)                 { return 7, nil }
func (f *fake) Sweep(context.Context, func(string) bool) ([]string, error) {
	return []string{"lost"}, errors.New("busy")
}
func (f *fake) Publish(m events.Message) { f.did("event", string(m.Action), m.Actor.ID) }

func made(t *testing.T, f *fake) *Service {
	t.Helper()
	s, err := New(t.Context(), recs{f}, f, f, f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLife(t *testing.T) {
	f := &fake{records: map[string][]byte{}}
	s := made(t, f)
	ctx := t.Context()
	for range 2 { // idempotent
		if _, err := s.Ensure(ctx, "data", "", nil, map[string]string{"a": "b"}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := s.Acquire(ctx, "data", "c1"); err != nil {
			t.Fatal(err)
		}
	}
	err := s.Remove(ctx, "data", true)
	if !errdefs.IsConflict(err) || err.Error() != "remove data: volume is in use - [c1]" {
		t.Fatalf("remove in use: %v", err)
	}
	for range 3 { // once more than acquired
		if err := s.Release(ctx, "data", "c1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remove(ctx, "data", false); err != nil {
		t.Fatal(err)
	}
	want := "mkdir data|save data|keep mkdir|event create data|mount data|mount data|unmount data|unmount data|rmdir data|forget data|event destroy data|keep rmdir"
	if got := strings.Join(f.log, "|"); got != want {
		t.Errorf("steps\n%s\nwant\n%s", got, want)
	}
	if err := s.Remove(ctx, "data", false); !errdefs.IsNotFound(err) {
		t.Errorf("removing it again: %v", err)
	}
	if err := s.Remove(ctx, "data", true); err != nil {
		t.Errorf("removing it again by force: %v", err)
	}
}

func TestFailedSaveIsUndone(t *testing.T) {
	f := &fake{records: map[string][]byte{}, saveErr: errors.New("disk full")}
	s := made(t, f)
	if _, err := s.Ensure(t.Context(), "data", "", nil, nil); err == nil {
		t.Fatal("no error")
	}
	if got := strings.Join(f.log, "|"); got != "mkdir data|save data|undo mkdir" {
		t.Errorf("steps %s", got)
	}
	if _, err := s.Get(t.Context(), "data"); !errdefs.IsNotFound(err) {
		t.Errorf("the volume is there: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	s := made(t, &fake{records: map[string][]byte{}})
	ctx := t.Context()
	if _, err := s.Ensure(ctx, "data", "", map[string]string{"type": "tmpfs"}, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, driver string
		opts         map[string]string
		is           func(error) bool
	}{
		{"a", "", nil, errdefs.IsInvalidArgument},
		{"../x", "", nil, errdefs.IsInvalidArgument},
		{"-x", "", nil, errdefs.IsInvalidArgument},
		{strings.Repeat("x", 256), "", nil, errdefs.IsInvalidArgument},
		{"ok", "nosuch", nil, errdefs.IsNotFound},
		{"data", "", map[string]string{"type": "nfs"}, errdefs.IsConflict},
	} {
		if _, err := s.Ensure(ctx, c.name, c.driver, c.opts, nil); !c.is(err) {
			t.Errorf("%q %q %v: %v", c.name, c.driver, c.opts, err)
		}
	}
}

func TestListAndPrune(t *testing.T) {
	f := &fake{records: map[string][]byte{}}
	s := made(t, f)
	ctx := t.Context()
	for _, n := range []string{"bb", "aa", "cc"} {
		if _, err := s.Ensure(ctx, n, "", nil, map[string]string{"n": n}); err != nil {
			t.Fatal(err)
		}
	}
	anon, err := s.Ensure(ctx, "", "", nil, nil)
	if err != nil || len(anon.Name) != 64 {
		t.Fatal(anon, err)
	}
	if _, err := s.Acquire(ctx, "aa", "c1"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args filters.Args
		want string
	}{
		{filters.Args{"name": {"b"}, "label": {"n"}}, "bb"},
		{filters.Args{"dangling": {"false"}}, "aa"},
		{filters.Args{"dangling": {"true"}, "label": {"n"}}, "bb cc"},
		{filters.Args{"label": {"n=cc"}}, "cc"},
		{filters.Args{"driver": {"nfs"}}, ""},
	} {
		l, err := s.List(ctx, c.args)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, v := range l.Volumes {
			names = append(names, v.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%v: %q, want %q", c.args, got, c.want)
		}
	}
	if _, err := s.List(ctx, filters.Args{"nosuch": {"1"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("unknown filter: %v", err)
	}
	again := made(t, f) // after a restart
	rep, err := again.Prune(ctx, nil)
	if err != nil || len(rep.VolumesDeleted) != 1 || rep.VolumesDeleted[0] != anon.Name || rep.SpaceReclaimed != 7 {
		t.Errorf("prune: %v %v", rep, err)
	}
	rep, err = s.Prune(ctx, filters.Args{"all": {"true"}, "label!": {"n=bb"}})
	if err != nil || !slices.Contains(rep.VolumesDeleted, "cc") || slices.Contains(rep.VolumesDeleted, "aa") {
		t.Errorf("prune all: %v %v", rep, err)
	}
}

func TestFailedRemovalIsUndone(t *testing.T) {
	f := &fake{records: map[string][]byte{}}
	s := made(t, f)
	if _, err := s.Ensure(t.Context(), "data", "", nil, nil); err != nil {
		t.Fatal(err)
	}
	f.log, f.forgetErr = nil, errors.New("disk full")
	if err := s.Remove(t.Context(), "data", true); err == nil {
		t.Fatal("no error")
	}
	if got := strings.Join(f.log, "|"); got != "unmount data|rmdir data|forget data|undo rmdir" {
		t.Errorf("steps %s", got)
	}
	if _, err := s.Get(t.Context(), "data"); err != nil {
		t.Errorf("the volume is gone: %v", err)
	}
}

// A stopped container holds nothing after a restart of the daemon, but its volumes are its own.
func TestVolumesOfStoppedContainersAreInUse(t *testing.T) {
	f := &fake{records: map[string][]byte{}}
	ctx := t.Context()
	if _, err := made(t, f).Ensure(ctx, "data", "", nil, map[string]string{AnonymousLabel: ""}); err != nil {
		t.Fatal(err)
	}
	s := made(t, f)
	s.SetUsers(func(name string) []string {
		if name == "data" {
			return []string{"c1"}
		}
		return nil
	})
	if err := s.Remove(ctx, "data", true); !errdefs.IsConflict(err) {
		t.Errorf("remove: %v", err)
	}
	if rep, err := s.Prune(ctx, filters.Args{"all": {"1"}}); err != nil || len(rep.VolumesDeleted) > 0 {
		t.Errorf("prune: %v %v", rep, err)
	}
	if l, err := s.List(ctx, filters.Args{"dangling": {"true"}}); err != nil || len(l.Volumes) > 0 {
		t.Errorf("dangling: %v %v", l, err)
	}
	if u, err := s.Usage(ctx); err != nil || len(u) != 1 || u[0].UsageData.RefCount != 1 || u[0].UsageData.Size != 7 {
		t.Errorf("usage: %v %v", u, err)
	}
}

func TestDamagedRecord(t *testing.T) {
	f := &fake{records: map[string][]byte{"data": []byte("{")}}
	s := made(t, f)
	ctx := t.Context()
	if _, err := s.Acquire(ctx, "data", "c"); !errdefs.IsDataLoss(err) {
		t.Errorf("acquire: %v", err)
	}
	if _, err := s.Ensure(ctx, "data", "", nil, nil); !errdefs.IsDataLoss(err) {
		t.Errorf("ensure: %v", err)
	}
	if rep, err := s.Prune(ctx, filters.Args{"all": {"true"}}); err != nil || len(rep.VolumesDeleted) > 0 {
		t.Errorf("prune took it: %v %v", rep, err)
	}
	if v, err := s.Inspect(ctx, "data"); err != nil || v.Mountpoint != "/v/data" {
		t.Errorf("inspect: %v %v", v, err)
	}
	if err := s.Remove(ctx, "data", false); err != nil {
		t.Errorf("remove by name: %v", err)
	}
}
