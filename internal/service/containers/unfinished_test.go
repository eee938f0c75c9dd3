package containers

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gantry-engine/gantry/internal/spec"
)

// TestRunThatNobodyRecorded: the daemon died before it had recorded a start, and the process ended
// before the next daemon looked. Its exit is the container's all the same.
func TestRunThatNobodyRecorded(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s)
	key := spec.ProcessKey{Container: id}
	s.core.stop(errors.New("killed")) // before the exit: it is for the next daemon
	w.ended = map[spec.ProcessKey]spec.Running{key: {PID: 4243, Started: time.Now()}}
	w.exits <- spec.Exit{Key: key, Code: 7, Time: time.Now()}
	s2 := restart(w, s)
	eventually(t, "the exit is recorded", func() bool {
		rec, _ := s2.Snapshot(ctx, id)
		return rec.State.Status == Exited && rec.State.ExitCode == 7 && !rec.State.Started.IsZero()
	})
}

// TestRunThatIsRecorded: an exit that was recorded but not forgotten counts once.
func TestRunThatIsRecorded(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s)
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	done, _ := s.Wait(ctx, id, "")
	key := spec.ProcessKey{Container: id}
	w.end(key, spec.Exit{Code: 3})
	<-done
	settled(t, s) // who waits is answered before the exit is on record
	rec, _ := s.Snapshot(ctx, id)
	w.ended = map[spec.ProcessKey]spec.Running{key: {PID: 4242, Started: rec.State.Started}}
	s2 := restart(w, s)
	if rec, _ := s2.Snapshot(ctx, id); rec.State.Status != Exited || rec.State.ExitCode != 3 {
		t.Errorf("after the restart: %+v", rec.State)
	}
}

// TestUnfinishedWorkIsDeleted: what a killed daemon left without a record goes, what has one stays.
func TestUnfinishedWorkIsDeleted(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	kept := create(t, s)
	if left, err := os.ReadDir(s.unfinished.Dir); err != nil && !os.IsNotExist(err) || len(left) != 0 {
		t.Fatalf("a create that is done leaves notes: %v, %v", left, err)
	}
	const gone = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, id := range []string{gone, kept} {
		if err := errors.Join(s.unfinished.Begin(id, "vol-"+id[:4]), os.MkdirAll(filepath.Join(s.Config.DataRoot, "containers", id), 0o700),
			os.MkdirAll(filepath.Join(s.Config.ExecRoot, "containers", id), 0o700)); err != nil {
			t.Fatal(err)
		}
		w.layers[id] = true
		w.volumes["vol-"+id[:4]] = map[string]bool{}
	}
	restart(w, s)
	for _, id := range []string{gone, kept} {
		want := id == kept
		_, data := os.Stat(filepath.Join(s.Config.DataRoot, "containers", id))
		_, exec := os.Stat(filepath.Join(s.Config.ExecRoot, "containers", id))
		_, note := os.Stat(filepath.Join(s.unfinished.Dir, id))
		if _, volume := w.volumes["vol-"+id[:4]]; w.layers[id] != want || volume != want || (data == nil) != want || (exec == nil) != want {
			t.Errorf("known %v: layer %v, volume %v, files %v, %v", want, w.layers[id], volume, data, exec)
		}
		if note == nil {
			t.Errorf("known %v: the note is still there", want)
		}
	}
}
