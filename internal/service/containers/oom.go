package containers

import (
	"github.com/moby/moby/api/types/events"
)

// oomWatch is what the world was told of a run's kills for want of memory. A kill may hit a child or an exec
// while the container lives on: it is told of at once, and inspect shows it.
type oomWatch struct {
	OOMWatch
	told uint64 // kills; guarded by the container's lock
}

// watchOOM begins to watch a run. The caller holds the container's lock.
func (s *starter) watchOOM(e *entry, rec *Container) {
	o := &oomWatch{}
	w, err := s.OOMs.Watch(s.base, rec.Cgroup, func() { s.struck(e, o) })
	if err != nil { // its end tells of kills, too
		s.log.Warn("a container cannot be watched for kills for want of memory", "container", rec.ID, "error", err)
		return
	}
	o.OOMWatch = w
	if rec.State.OOMKilled { // taken over: what a former daemon told is not told again
		o.told = w.Kills()
	}
	e.mu.Lock()
	e.oom = o
	e.mu.Unlock()
}

// struck tells of kills while the container lives.
func (s *starter) struck(e *entry, o *oomWatch) {
	_, unlock, err := s.open(s.base, e.id)
	if err != nil {
		return
	}
	defer unlock()
	e.mu.Lock()
	present := e.oom == o
	e.mu.Unlock()
	if !present { // the exit has told
		return
	}
	n := o.Kills()
	if n <= o.told {
		return
	}
	rec := e.snapshot()
	if !rec.State.OOMKilled {
		if rec, err = s.change(s.base, e, soon, func(r *Container) { r.State.OOMKilled = true }); err != nil {
			s.log.Error("a kill for want of memory could not be recorded", "container", e.id, "error", err)
			return
		}
	}
	o.told = n
	s.publish(rec, events.ActionOOM, nil)
}

// endOOM ends the watch of a run: was there a kill, and is there one to be told of? atExit is the keeper's word.
// The caller holds the container's lock; the cgroup is still there.
func (e *entry) endOOM(atExit bool) (killed, tell bool) {
	e.mu.Lock()
	o := e.oom
	e.oom = nil
	e.mu.Unlock()
	if o == nil {
		return atExit, atExit
	}
	n := o.Kills()
	o.End()
	return atExit || n > 0, n > o.told || atExit && o.told == 0
}
