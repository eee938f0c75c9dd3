package store

import (
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
	must(t, s.db.Close())
	must(t, s.lock.Close())
}

// noPending is an error if files tell of records that are still to be committed.
func noPending(t *testing.T, o Options) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(o.ExecRoot, "records", "containers.soon"))
	if err != nil || len(left) != 0 {
		t.Errorf("files left: %v %v", left, err)
	}
}

func TestSaveSoonSurvivesAKill(t *testing.T) {
	o := roots(t)
	s := open(t, o)
	b := s.Bucket("containers")
	for _, id := range []string{"started", "removed", "saved"} {
		must(t, b.Save(ctx, id, []byte(`"created"`)))
		b.SaveSoon(id, []byte(`"running"`))
	}
	must(t, b.Remove(ctx, "removed"))
	must(t, b.Save(ctx, "saved", []byte(`"exited"`)))
	b.SaveSoon("started", []byte(`"running still"`))
	crash(t, s)

	s = open(t, o)
	got := all(s.Bucket("containers"))
	if len(got) != 2 || got["started"] != `"running still"` || got["saved"] != `"exited"` {
		t.Errorf("after the kill: %v", got)
	}
	// Reading committed what was pending. Once the writer has ended no file is left, and the next store has it from the database.
	crash(t, s)
	noPending(t, o)
	s = open(t, o)
	defer s.Close()
	if got := all(s.Bucket("containers")); got["started"] != `"running still"` {
		t.Errorf("after the second kill: %v", got)
	}
}

func TestRemoveSoonSurvivesAKill(t *testing.T) {
	o := roots(t)
	s := open(t, o)
	b := s.Bucket("containers")
	for _, id := range []string{"gone", "again", "stays"} {
		must(t, b.Save(ctx, id, []byte(`"first"`)))
	}
	must(t, b.SaveVolatile(ctx, "passing", []byte(`"volatile"`)))
	for _, id := range []string{"gone", "again", "passing", "never-there"} {
		must(t, b.RemoveSoon(ctx, id))
	}
	must(t, b.Save(ctx, "again", []byte(`"second"`)))
	b.SaveSoon("gone-at-once", []byte(`"x"`))
	must(t, b.RemoveSoon(ctx, "gone-at-once"))
	crash(t, s)

	s = open(t, o)
	if got := all(s.Bucket("containers")); len(got) != 2 || got["again"] != `"second"` || got["stays"] != `"first"` {
		t.Errorf("after the kill: %v", got)
	}
	crash(t, s)
	noPending(t, o)
	s = open(t, o)
	defer s.Close()
	if got := all(s.Bucket("containers")); len(got) != 2 {
		t.Errorf("after the second kill: %v", got)
	}
}
