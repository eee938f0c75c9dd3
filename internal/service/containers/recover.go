package containers

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/containers/notes"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Finding is what a starting daemon sees of one container besides its record.
type Finding struct {
	Process  bool // the keeper looks after its init
	Exit     bool // the keeper recorded an exit
	Rebooted bool // the record was last started during another boot
}

// Action is what recovery does with one container.
type Action uint8

// What recovery can do.
const (
	Leave      Action = iota // the record is true
	Adopt                    // it runs: take it over
	AwaitExit                // it ended meanwhile: the keeper delivers its exit
	LostExit                 // it ended and nobody saw how: record the exit as unknown
	Clear                    // its removal or start was interrupted: finish the removal
	StartAgain               // its restart policy wants it now
)

// decide is the decision table of a starting daemon: record × what runs × what
// the keeper recorded.
func decide(rec *Container, f Finding) Action {
	switch st := rec.State.Status; {
	case st == Removing || st == Dead:
		return Clear
	case f.Process && !f.Rebooted: // also a start that was not recorded any more
		return Adopt
	case f.Exit:
		return AwaitExit
	case st.Alive():
		return LostExit
	case st == Restarting:
		return StartAgain
	case st == Exited && rec.comesBack():
		return StartAgain
	}
	return Leave
}

// comesBack tells whether the restart policy starts a stopped container with the daemon.
func (c *Container) comesBack() bool {
	switch p := c.HostConfig.RestartPolicy; p.Name {
	case container.RestartPolicyAlways:
		return true
	case container.RestartPolicyUnlessStopped:
		return c.State.StoppedBy != StoppedByUser
	case container.RestartPolicyOnFailure:
		return c.State.StoppedBy == StoppedByDaemon && c.State.ExitCode != 0
	}
	return false
}

type recoverer struct {
	*core
	start  *starter
	stop   *stopper
	remove *remover
	health *healthMonitor
	execs  *execs

	later []func() // what Resume does
}

// Recover reads all records, compares them with what runs, and puts right what
// differs. It returns when every record is in memory and what runs is taken over. It must be
// called once, before anything else; Resume must follow when containers can be started.
func (r *recoverer) Recover(ctx context.Context) error {
	alive, err := r.Lifetimes.Alive(ctx)
	if err != nil {
		return fmt.Errorf("asking the keeper what runs: %w", err)
	}
	ended, err := r.Lifetimes.Ended(ctx)
	if err != nil {
		return fmt.Errorf("asking the keeper what has ended: %w", err)
	}
	failpoint.Hit("gantryd.recover-listed")
	var first []func()
	known := map[string]bool{}
	for id, data := range r.Records.All(ctx) {
		known[id] = true
		rec, err := decodeContainer(id, data)
		if err != nil {
			r.log.Error("a container's record cannot be used", "container", id, "error", err)
			continue
		}
		if err := r.reg.reserve(rec.Name, rec.ID); err != nil {
			r.log.Error("two containers have one name", "container", id, "error", err)
			rec.Name = id[:12]
		}
		e := newEntry(rec)
		r.reg.add(e)
		r.holdVolumes(rec)
		running, runs := alive[rec.Key()]
		if past, over := ended[rec.Key()]; over && !runs && !past.Started.Equal(rec.State.Started) {
			// The record does not know of this run, not even that it began: its exit needs it to.
			running, runs = past, true
		}
		boot := rec.State.BootID
		if held := notes.ReadRun(running.Note); held != nil && held.BootID != "" {
			boot = held.BootID // the record may not know of this run yet
		}
		f := Finding{Process: runs, Rebooted: boot != "" && boot != r.Config.BootID}
		switch decide(rec, f) {
		case Adopt:
			first = append(first, func() { r.adopt(e, running, alive) })
		case LostExit:
			first = append(first, func() { r.lost(e) })
		case Clear:
			r.later = append(r.later, func() { r.clear(e) })
		case StartAgain:
			r.later = append(r.later, func() { r.again(e) })
		}
	}
	for key, past := range ended {
		if held := notes.ReadRun(past.Note); held != nil && held.Cgroup.Path != "" && !known[key.Container] {
			if err := r.Cgroups.Destroy(ctx, held.Cgroup); err != nil {
				r.log.Warn("the cgroup of a removed container could not be removed", "container", key.Container, "error", err)
			}
		}
	}
	r.sweep(ctx, known)
	failpoint.Hit("gantryd.recover-read")
	inParallel(first) // before exits are taken in, so that an exit finds its container running
	return nil
}

// Resume takes in exits, and goes on in the background with restarts and clean-up. Networks must
// be ready: what Recover took over has its addresses and ports again by then.
func (r *recoverer) Resume() {
	failpoint.Hit("gantryd.recover-resume")
	close(r.ready)
	go r.start.watch(r.base)
	go inParallel(r.later)
	r.later = nil
}

// holdVolumes counts a container among the users of its volumes, running or not.
func (r *recoverer) holdVolumes(rec *Container) {
	for _, m := range rec.Mounts {
		if m.Name == "" {
			continue
		}
		if _, err := r.Volumes.Acquire(r.base, m.Name, rec.ID); err != nil {
			r.log.Error("a container's volume is missing", "container", rec.ID, "volume", m.Name, "error", err)
		}
	}
}

// inParallel runs functions, a few at a time, and waits for all.
func inParallel(todo []func()) {
	sem := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for _, f := range todo {
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			f()
		})
	}
	wg.Wait()
}

// adopt takes over a container that lived on without a daemon.
func (r *recoverer) adopt(e *entry, running spec.Running, alive map[spec.ProcessKey]spec.Running) {
	ctx := r.base
	_, unlock, err := r.open(ctx, e.id)
	if err != nil {
		return
	}
	defer unlock()
	rec, err := r.change(ctx, e, soon, func(c *Container) {
		if !c.State.Status.Alive() { // the record does not know of this run yet
			if c.State.Status != Restarting {
				c.RestartCount = 0
			}
			c.State.Status, c.State.Started = Running, running.Started
			if held := notes.ReadRun(running.Note); held != nil {
				c.began(running, *held)
			}
		}
		c.State.Pid, c.State.Error = running.PID, ""
	})
	if err != nil {
		r.log.Error("a running container could not be recorded", "container", e.id, "error", err)
		return
	}
	if len(rec.Sandbox.Endpoints) > 0 || rec.Sandbox.ID != "" {
		if err := r.Networks.Restore(ctx, rec.ID, rec.Sandbox, running.PID); err != nil {
			r.log.Error("a running container's network could not be taken over", "container", e.id, "error", err)
		}
	}
	failpoint.Hit("gantryd.recover-adopted")
	e.markStarted()
	r.execs.adopt(e, alive)
	r.health.begin(e, rec)
	r.start.watchOOM(e, rec)
}

// lost records an exit that nobody saw, unless the keeper tells of it after all.
func (r *recoverer) lost(e *entry) {
	_, unlock, err := r.open(r.base, e.id)
	if err != nil {
		return
	}
	defer unlock()
	rec := e.snapshot()
	if rec.State.BootID == r.Config.BootID {
		// Same boot: an exit record may be on its way. The exits that the keeper holds come at
		// once; what has not come by then was never seen.
		r.after(lostPatience, func() { r.giveUp(e) })
		return
	}
	r.unknown(e, rec)
}

// lostPatience is how long the keeper's exit records may take to arrive.
const lostPatience = 2 * time.Second

func (r *recoverer) giveUp(e *entry) {
	_, unlock, err := r.open(r.base, e.id)
	if err != nil {
		return
	}
	defer unlock()
	if rec := e.snapshot(); rec.State.Status.Alive() {
		alive, err := r.Lifetimes.Alive(r.base)
		if _, runs := alive[rec.Key()]; err == nil && !runs {
			r.unknown(e, rec)
		}
	}
}

func (r *recoverer) unknown(e *entry, rec *Container) {
	when := r.now()
	if when.Before(rec.State.Started) { // the clock jumped: a run does not end before it began
		when = rec.State.Started
	}
	r.start.ended(r.base, e, spec.Exit{Key: rec.Key(), Code: 255, Time: when, Unknown: true})
}

// clear finishes a removal.
func (r *recoverer) clear(e *entry) {
	_, unlock, err := r.open(r.base, e.id)
	if err != nil {
		return
	}
	defer unlock()
	if _, err := r.change(r.base, e, inMemory, func(c *Container) { c.State.Status = Dead }); err != nil {
		return
	}
	if err := r.remove.removeLocked(r.base, e, RemoveOptions{Force: true}); err != nil {
		r.log.Error("an interrupted removal could not be finished", "container", e.id, "error", err)
	}
}

// again starts a container whose restart policy wants it.
func (r *recoverer) again(e *entry) {
	_, unlock, err := r.open(r.base, e.id)
	if err != nil {
		return
	}
	defer unlock()
	ev := EvStart
	if e.snapshot().State.Status == Restarting {
		ev = EvRestartDue
	}
	if err := r.start.launch(r.base, e, ev); err != nil {
		r.log.Error("a container could not be started with the engine", "container", e.id, "error", err)
	}
}
