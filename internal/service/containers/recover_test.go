package containers

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/spec"
)

func TestDecide(t *testing.T) {
	rec := func(s Status, policy container.RestartPolicyMode, by Stopper, code int) *Container {
		return &Container{Config: &container.Config{}, HostConfig: &container.HostConfig{RestartPolicy: container.RestartPolicy{Name: policy}},
			State: State{Status: s, StoppedBy: by, ExitCode: code}}
	}
	for _, c := range []struct {
		name string
		rec  *Container
		f    Finding
		want Action
	}{
		{"running, alive", rec(Running, "no", 0, 0), Finding{Process: true}, Adopt},
		{"paused, alive", rec(Paused, "no", 0, 0), Finding{Process: true}, Adopt},
		{"start was not recorded", rec(Created, "no", 0, 0), Finding{Process: true}, Adopt},
		{"running, exit recorded", rec(Running, "no", 0, 0), Finding{Exit: true}, AwaitExit},
		{"running, nothing known", rec(Running, "no", 0, 0), Finding{}, LostExit},
		{"running, machine rebooted", rec(Running, "always", 0, 0), Finding{Rebooted: true}, LostExit},
		{"another process after a reboot", rec(Running, "no", 0, 0), Finding{Process: true, Rebooted: true}, LostExit},
		{"created", rec(Created, "always", 0, 0), Finding{}, Leave},
		{"exited, no policy", rec(Exited, "no", 0, 1), Finding{}, Leave},
		{"exited, always", rec(Exited, "always", StoppedByUser, 0), Finding{}, StartAgain},
		{"unless-stopped, stopped by the user", rec(Exited, "unless-stopped", StoppedByUser, 0), Finding{}, Leave},
		{"unless-stopped, stopped by the engine", rec(Exited, "unless-stopped", StoppedByDaemon, 0), Finding{}, StartAgain},
		{"on-failure, used up", rec(Exited, "on-failure", StoppedBySelf, 1), Finding{}, Leave},
		{"on-failure, stopped by the engine", rec(Exited, "on-failure", StoppedByDaemon, 143), Finding{}, StartAgain},
		{"restarting", rec(Restarting, "always", 0, 1), Finding{}, StartAgain},
		{"removal interrupted", rec(Removing, "no", 0, 0), Finding{}, Clear},
		{"dead", rec(Dead, "no", 0, 0), Finding{}, Clear},
	} {
		if got := decide(c.rec, c.f); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// again starts a second service over the same world, as a new daemon would.
func restart(w *world, old *Service, edit ...func(*Config)) *Service {
	old.core.stop(errors.New("killed"))
	return w.service(append([]func(*Config){func(c *Config) { *c = old.Deps.Config }}, edit...)...)
}

func TestContainerOutlivesTheDaemon(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s)
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	s2 := restart(w, s)
	if rec, _ := s2.Snapshot(ctx, id); rec.State.Status != Running || rec.State.Pid != 4242 {
		t.Fatalf("after the restart: %+v", rec.State)
	}
	done, _ := s2.Wait(ctx, id, "")
	w.end(spec.ProcessKey{Container: id}, spec.Exit{Code: 9})
	if r := <-done; r.StatusCode != 9 {
		t.Errorf("wait says %d", r.StatusCode)
	}
}

func TestRebootMakesTheExitUnknown(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s)
	again := create(t, s, func(r *CreateRequest) { r.HostConfig.RestartPolicy = container.RestartPolicy{Name: "unless-stopped"} })
	for _, c := range []string{id, again} {
		if err := s.Start(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the start is on record", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.saves["soon"] > 0 })
	clear(w.procs)
	clear(w.nets)
	w.recovered = func(s *Service) { // networks are not there yet
		time.Sleep(3 * backoffMin)
		if st := status(s, again); st != Restarting {
			t.Errorf("before containers can be started, one is %s", st)
		}
	}
	s2 := restart(w, s, func(c *Config) { c.BootID = "boot2" })
	rec, _ := s2.Snapshot(ctx, id)
	if rec.State.Status != Exited || rec.State.ExitCode != 255 || rec.State.Error != unknownExit {
		t.Errorf("after the reboot: %+v", rec.State)
	}
	if rec.State.Finished.Before(rec.State.Started) {
		t.Error("it finished before it started")
	}
	eventually(t, "the restart policy is honoured", func() bool { return status(s2, again) == Running })
}

func TestShutdownStopsAllAndStartsThemAgain(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	keep := create(t, s, func(r *CreateRequest) { r.HostConfig.RestartPolicy = container.RestartPolicy{Name: "unless-stopped"} })
	plain := create(t, s)
	for _, c := range []string{keep, plain} {
		if err := s.Start(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if len(w.procs) != 0 {
		t.Fatal("processes are left")
	}
	s2 := restart(w, s)
	eventually(t, "it came back", func() bool { return status(s2, keep) == Running })
	if status(s2, plain) != Exited {
		t.Errorf("the one without policy is %s", status(s2, plain))
	}
}

func TestLiveRestoreLeavesContainersAlone(t *testing.T) {
	w := newWorld(t)
	s := w.service(func(c *Config) { c.LiveRestore = true })
	id := create(t, s)
	if err := s.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if len(w.procs) != 1 {
		t.Error("the container was stopped")
	}
}

func TestInterruptedRemovalIsFinished(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s)
	e := s.reg.byID(id)
	if _, err := s.change(ctx, e, durable, func(c *Container) { c.State.Status = Removing }); err != nil {
		t.Fatal(err)
	}
	s2 := restart(w, s)
	eventually(t, "gone", func() bool { return status(s2, id) == "gone" })
	if len(w.layers)+len(w.records) != 0 {
		t.Error("something is left")
	}
}

// A thousand stopped containers cost a scan of the store and nothing else.
func TestRecoveryOfStoppedContainersTouchesNothing(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	for i := range 1000 {
		create(t, s, func(r *CreateRequest) { r.Name = fmt.Sprintf("box%d", i) })
	}
	w.taken()
	s2 := restart(w, s)
	if n := len(s2.reg.all()); n != 1000 {
		t.Errorf("%d containers", n)
	}
	if steps := w.taken(); len(steps) != 0 {
		t.Errorf("recovery did %d things, the first: %s", len(steps), steps[0])
	}
}

func TestRecordOfANewerEngineIsRefused(t *testing.T) {
	if _, err := decodeContainer("a", []byte(`{"Version":99,"ID":"a"}`)); err == nil {
		t.Error("a record of version 99 was read")
	}
	if _, err := decodeContainer("a", []byte(`{`)); err == nil {
		t.Error("half a record was read")
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	var got []time.Duration
	for range 12 {
		got = append(got, b.next(time.Second))
	}
	if got[0] != 100*time.Millisecond || got[1] != 200*time.Millisecond || got[11] != time.Minute {
		t.Errorf("%v", got)
	}
	if d := b.next(11 * time.Second); d != 100*time.Millisecond {
		t.Errorf("after a long run: %v", d)
	}
}

// An auto-remove container's record and files are gone after a reboot; its anonymous volumes go too, and nobody else's.
func TestRebootTakesVolumesOfAutoRemove(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	volume := func(edit func(*CreateRequest)) (id, name string) {
		id = create(t, s, func(r *CreateRequest) { r.Config.Volumes = map[string]struct{}{"/v": {}} }, edit)
		rec, err := s.Snapshot(ctx, id)
		if err != nil || len(rec.Mounts) != 1 || w.volumes[rec.Mounts[0].Name] == nil {
			t.Fatalf("%v: %+v", err, rec.Mounts)
		}
		return id, rec.Mounts[0].Name
	}
	auto := func(r *CreateRequest) { r.HostConfig.AutoRemove = true }
	id, goes := volume(auto)
	_, stays := volume(func(*CreateRequest) {})
	removed, kept := volume(auto) // removed by hand without its volume
	if err := s.Remove(ctx, removed, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	delete(w.records, id)
	for _, users := range w.volumes {
		clear(users)
	}
	exec := t.TempDir()
	restart(w, s, func(c *Config) { c.BootID, c.ExecRoot = "boot2", exec })
	if w.volumes[goes] != nil {
		t.Error("the auto-remove container's volume is left")
	}
	if w.volumes[stays] == nil || w.volumes[kept] == nil {
		t.Error("a volume of another container is gone, or one that was to stay")
	}
	if left, _ := os.ReadDir(s.owners.Dir); len(left) != 0 {
		t.Errorf("notes are left: %v", left)
	}
}
