package containers

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/gantry-engine/gantry/internal/spec"
)

// fakeOOMs watches cgroups that a test kills in.
type fakeOOMs struct{ w *world }

// fakeOOM is one cgroup's counter; it outlives a daemon, as a cgroup does.
type fakeOOM struct {
	mu     sync.Mutex
	n      uint64
	struck func()
}

func (f fakeOOMs) Watch(_ context.Context, cg spec.Cgroup, struck func()) (OOMWatch, error) {
	if err := f.w.fail["watch"]; err != nil {
		return nil, err
	}
	v, _ := f.w.ooms.LoadOrStore(cg.Path, &fakeOOM{})
	o := v.(*fakeOOM)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.struck = struck
	if o.n > 0 {
		go struck()
	}
	return o, nil
}

func (o *fakeOOM) Kills() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n
}

func (o *fakeOOM) End() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.struck = nil
}

// kill is a kill by the kernel; told says whether who watches hears of it.
func (w *world) kill(id string, told bool) {
	v, _ := w.ooms.LoadOrStore("/gantry/"+id, &fakeOOM{})
	o := v.(*fakeOOM)
	o.mu.Lock()
	o.n++
	f := o.struck
	o.mu.Unlock()
	if told && f != nil {
		f()
	}
}

// watched tells whether anybody wants to hear of kills.
func (w *world) watched(id string) bool {
	v, ok := w.ooms.Load("/gantry/" + id)
	if !ok {
		return false
	}
	o := v.(*fakeOOM)
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.struck != nil
}

func (w *world) count(action string) (n int) {
	for _, a := range w.actions() {
		if a == action {
			n++
		}
	}
	return n
}

func TestOOM(t *testing.T) {
	type step func(t *testing.T, w *world, s *Service, id string) *Service
	kill := func(told bool) step {
		return func(_ *testing.T, w *world, s *Service, id string) *Service { w.kill(id, told); return s }
	}
	again := func(_ *testing.T, w *world, s *Service, _ string) *Service { return restart(w, s) }
	living := func(t *testing.T, w *world, s *Service, id string) *Service {
		eventually(t, "inspect tells of the kill", func() bool { rec, _ := s.Snapshot(ctx, id); return rec.State.OOMKilled })
		return s
	}
	for _, c := range []struct {
		name   string
		steps  []step
		atExit bool
		events int
		killed bool
	}{
		{"no kill", nil, false, 0, false},
		{"the first process, and the watch was quicker", []step{kill(true)}, true, 1, true},
		{"the first process, and the exit was quicker", []step{kill(false)}, true, 1, true},
		{"the first process, and the cgroup is gone", nil, true, 1, true},
		{"a child", []step{kill(true), living}, true, 1, true},
		{"a child, and the keeper's counter began later", []step{kill(true), living}, false, 1, true},
		{"two children", []step{kill(true), living, kill(true)}, true, 2, true},
		{"a child, then the first process at once", []step{kill(true), kill(false)}, true, 2, true},
		{"a child without a daemon", []step{again, kill(false), again, living}, true, 1, true},
		{"a child, then another daemon", []step{kill(true), living, again}, true, 1, true},
		{"a child, another daemon, a child", []step{kill(true), again, kill(true)}, true, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			s := w.service()
			id := create(t, s)
			if err := s.Start(ctx, id); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is watched", func() bool { return w.watched(id) })
			for _, f := range c.steps {
				s = f(t, w, s, id)
			}
			done, _ := s.Wait(ctx, id, "")
			w.end(spec.ProcessKey{Container: id}, spec.Exit{Code: 137, OOM: c.atExit})
			<-done
			if rec, _ := s.Snapshot(ctx, id); rec.State.OOMKilled != c.killed {
				t.Errorf("OOMKilled %v", rec.State.OOMKilled)
			}
			eventually(t, "the end is told", func() bool { return w.count("die") == 1 })
			w.kill(id, true) // too late: nobody watches
			if n := w.count("oom"); n != c.events {
				t.Errorf("%d events oom, want %d: %q", n, c.events, w.actions())
			}
			if a := w.actions(); c.events > 0 && slices.Index(a, "oom") > slices.Index(a, "die") {
				t.Errorf("oom after die: %q", a)
			}
		})
	}
}

// A limit whose double, memory with swap, is more than a number holds has no bound on swap.
func TestHugeMemory(t *testing.T) {
	s := newWorld(t).service()
	for memory, swap := range map[int64]int64{1 << 30: 1 << 31, 1<<62 - 1: 1<<63 - 2, 1 << 62: -1, 1<<63 - 1: -1} {
		id := create(t, s, func(r *CreateRequest) { r.HostConfig.Memory = memory })
		if rec, _ := s.Snapshot(ctx, id); rec.HostConfig.MemorySwap != swap {
			t.Errorf("memory %d: with swap %d, want %d", memory, rec.HostConfig.MemorySwap, swap)
		}
	}
}

// The next run begins anew, and a host where nothing can be watched still tells at the end.
func TestOOMNextRun(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	id := create(t, s)
	for _, oom := range []bool{true, false, true} {
		w.fail["watch"] = context.DeadlineExceeded
		if err := s.Start(ctx, id); err != nil {
			t.Fatal(err)
		}
		if rec, _ := s.Snapshot(ctx, id); rec.State.OOMKilled {
			t.Error("killed before it began")
		}
		done, _ := s.Wait(ctx, id, "")
		w.end(spec.ProcessKey{Container: id}, spec.Exit{Code: 137, OOM: oom})
		<-done
		settled(t, s)
		if rec, _ := s.Snapshot(ctx, id); rec.State.OOMKilled != oom {
			t.Errorf("OOMKilled %v", rec.State.OOMKilled)
		}
	}
}
