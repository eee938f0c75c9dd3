package store

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// crash leaves the store as a killed daemon does: nothing more is committed, the lock is free.
func crash(t *testing.T, s *Store) {
	t.Helper()
	s.w.mu.Lock()
	s.w.closed = true
	clear(s.w.soon)
	s.w.mu.Unlock()
	s.w.poke()
	<-s.w.done
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.lock.Close(); err != nil {
		t.Fatal(err)
	}
}

func records(s *Store) map[string]string {
	all := map[string]string{}
	for id, b := range s.Bucket("containers").All(context.Background()) {
		all[id] = string(b)
	}
	return all
}

func TestSaveSoonSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	o := Options{DataRoot: filepath.Join(dir, "data"), ExecRoot: filepath.Join(dir, "exec")}
	open := func() *Store {
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ctx := context.Background()
	s := open()
	b := s.Bucket("containers")
	for _, id := range []string{"started", "removed", "saved"} {
		if err := b.Save(ctx, id, []byte(`"created"`)); err != nil {
			t.Fatal(err)
		}
		b.SaveSoon(id, []byte(`"running"`))
	}
	if err := b.Remove(ctx, "removed"); err != nil {
		t.Fatal(err)
	}
	if err := b.Save(ctx, "saved", []byte(`"exited"`)); err != nil {
		t.Fatal(err)
	}
	b.SaveSoon("started", []byte(`"running still"`))
	crash(t, s)

	s = open()
	got := records(s)
	if len(got) != 2 || got["started"] != `"running still"` || got["saved"] != `"exited"` {
		t.Errorf("after the kill: %v", got)
	}
	// Reading committed what was pending: no file is left, and the next store has it from the database.
	left, err := os.ReadDir(filepath.Join(o.ExecRoot, "records", "containers.soon"))
	if err != nil || len(left) != 0 {
		t.Errorf("files left: %v %v", left, err)
	}
	crash(t, s)
	s = open()
	defer s.Close()
	if got := records(s); got["started"] != `"running still"` {
		t.Errorf("after the second kill: %v", got)
	}
}

func TestRemoveSoonSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	o := Options{DataRoot: filepath.Join(dir, "data"), ExecRoot: filepath.Join(dir, "exec")}
	open := func() *Store {
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ctx := context.Background()
	s := open()
	b := s.Bucket("containers")
	for _, id := range []string{"gone", "again", "stays"} {
		if err := b.Save(ctx, id, []byte(`"first"`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.SaveVolatile(ctx, "passing", []byte(`"volatile"`)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"gone", "again", "passing", "never-there"} {
		if err := b.RemoveSoon(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Save(ctx, "again", []byte(`"second"`)); err != nil {
		t.Fatal(err)
	}
	b.SaveSoon("gone-at-once", []byte(`"x"`))
	if err := b.RemoveSoon(ctx, "gone-at-once"); err != nil {
		t.Fatal(err)
	}
	crash(t, s)

	s = open()
	if got := records(s); len(got) != 2 || got["again"] != `"second"` || got["stays"] != `"first"` {
		t.Errorf("after the kill: %v", got)
	}
	left, err := os.ReadDir(filepath.Join(o.ExecRoot, "records", "containers.soon"))
	if err != nil || len(left) != 0 {
		t.Errorf("files left: %v %v", left, err)
	}
	crash(t, s)
	s = open()
	defer s.Close()
	if got := records(s); len(got) != 2 {
		t.Errorf("after the second kill: %v", got)
	}
}
