package containers

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/spec"
)

// slowTearDown is a container whose run has ended, and whose cgroup is not gone until the gate opens.
func slowTearDown(t *testing.T, w *world, s *Service) (id string, gate chan struct{}) {
	t.Helper()
	id, gate = create(t, s), make(chan struct{})
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.destroying = gate
	w.mu.Unlock()
	done, _ := s.Wait(ctx, id, "")
	w.end(spec.ProcessKey{Container: id}, spec.Exit{Code: 3})
	if r := <-done; r.StatusCode != 3 {
		t.Fatalf("wait says %d", r.StatusCode)
	}
	return id, gate
}

// TestRemovalDoesNotWaitForTheTearDown: what the run still needs is deleted in the end.
func TestRemovalDoesNotWaitForTheTearDown(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id, gate := slowTearDown(t, w, s)
	if err := s.Remove(ctx, id, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if st := status(s, id); st != "gone" {
		t.Errorf("removed, and it is %s", st)
	}
	if !exists(s.Config.filesDir(id)) {
		t.Error("the run's files went before the tear-down was over")
	}
	if len(s.unfinished.Containers()) != 0 || exists(filepath.Join(s.Config.DataRoot, "containers", id)) {
		t.Error("removed, and its own folder is still there, or a note of it")
	}
	saves := w.saves["soon"]
	close(gate)
	settled(t, s)
	if len(w.cgroups) != 0 || exists(s.Config.filesDir(id)) {
		t.Errorf("left: cgroups %v, or files", w.cgroups)
	}
	if w.saves["soon"] != saves || len(w.records) != 0 {
		t.Error("the exit of a removed container was recorded")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.dead) != 0 {
		t.Error("the keeper still has the process")
	}
}

// TestStartWaitsForTheTearDown of the run before.
func TestStartWaitsForTheTearDown(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id, gate := slowTearDown(t, w, s)
	w.taken()
	started := make(chan error, 1)
	go func() { started <- s.Start(ctx, id) }()
	select {
	case err := <-started:
		t.Fatalf("it started (%v) while its last run still held its cgroup", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(gate)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if rec, _ := s.Snapshot(ctx, id); rec.State.Status != Running || rec.Cgroup.Path == "" {
		t.Errorf("started again: %+v, cgroup %+v", rec.State, rec.Cgroup)
	}
}

// TestTearDownOfARemovedContainer that a killed daemon did not finish is the next one's.
func TestTearDownOfARemovedContainer(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s)
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	key := spec.ProcessKey{Container: id}
	past := w.procs[key].running()
	s.core.stop(errors.New("killed"))
	w.mu.Lock() // its record is gone, its cgroup is not, and the keeper has not been told to forget it
	delete(w.records, id)
	delete(w.procs, key)
	w.ended = map[spec.ProcessKey]spec.Running{key: past}
	w.mu.Unlock()
	restart(w, s)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.cgroups) != 0 {
		t.Errorf("left: %v", w.cgroups)
	}
}

// TestStartIsRecordedLate: a short run not at all, a long one soon, and of one that a killed daemon did not record
// the next one knows everything from the keeper.
func TestStartIsRecordedLate(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	var clock fakeClock
	s.core.after = clock.after
	id := create(t, s)
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	if w.saves["soon"] != 0 {
		t.Error("a start wrote its record before it answered")
	}
	rec, _ := s.Snapshot(ctx, id)
	s2 := restart(w, s)
	got, _ := s2.Snapshot(ctx, id)
	if got.State.Status != Running || !got.State.Started.Equal(rec.State.Started) || got.State.BootID != rec.State.BootID || got.Cgroup.Path != rec.Cgroup.Path || got.Sandbox.ID != rec.Sandbox.ID {
		t.Errorf("before the daemon was killed %+v %v %v, after it %+v %v %v", rec.State, rec.Cgroup, rec.Sandbox, got.State, got.Cgroup, got.Sandbox)
	}
	s2.core.after = clock.after
	w.end(spec.ProcessKey{Container: id}, spec.Exit{})
	eventually(t, "it has ended", func() bool { return status(s2, id) == Exited })
	settled(t, s2)
	if err := s2.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	before := w.saves["soon"]
	for clock.fire() { // the first run's word, and the second's
	}
	eventually(t, "a run that goes on is recorded, and only that", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.saves["soon"] == before+1 })
	// One with a restart policy is, as it is to come back after a reboot.
	always := create(t, s2, func(r *CreateRequest) { r.HostConfig.RestartPolicy = container.RestartPolicy{Name: "always"} })
	before = w.saves["durable"]
	if err := s2.Start(ctx, always); err != nil {
		t.Fatal(err)
	}
	if w.saves["durable"] != before+1 {
		t.Error("the start of a container with a restart policy was not recorded")
	}
}
