package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
)

// unknownExit is the record's text for an exit that nobody saw.
const unknownExit = "the exit status is unknown: the engine and its keeper were down when the container ended"

// watch takes exits from the keeper until the service stops. Every exit is
// handled on its own: one container never waits for another.
func (s *starter) watch(ctx context.Context) {
	for x := range s.Lifetimes.Exits(ctx) {
		go s.onExit(ctx, x)
	}
}

func (s *starter) onExit(ctx context.Context, x spec.Exit) {
	if x.Key.Exec != "" {
		s.execs.exited(ctx, x)
		return
	}
	e, unlock, err := s.open(ctx, x.Key.Container)
	if err != nil {
		if errdefs.IsNotFound(err) {
			s.forget(ctx, x.Key)
		}
		return
	}
	defer unlock()
	if !e.snapshot().State.Status.Alive() {
		s.forget(ctx, x.Key)
		return
	}
	s.ended(ctx, e, x)
}

func (s *starter) forget(ctx context.Context, key spec.ProcessKey) {
	if err := s.Lifetimes.Forget(ctx, key); err != nil && !errdefs.IsNotFound(err) {
		s.log.Warn("an ended process could not be forgotten", "process", key, "error", err)
	}
}

// ended takes an exit in and tells the world. What the run held is freed behind, without the lock: a removal
// need not wait for it, a start does. The caller holds the lock.
func (s *starter) ended(ctx context.Context, e *entry, x spec.Exit) {
	rec := e.snapshot()
	ran := max(x.Time.Sub(rec.State.Started), 0)
	e.mu.Lock()
	byUser, keep := e.stopping, e.keep
	e.mu.Unlock()
	again := !byUser && rec.wantsRestart(x.Code) && s.base.Err() == nil
	ev := EvExited
	if again {
		ev = EvExitedAgain
	}
	failpoint.Hit("gantryd.exit-received")
	s.health.end(e)
	oomKilled, tellOOM := e.endOOM(x.OOM)
	text := ""
	if x.Unknown {
		text = unknownExit
	}
	// In memory first, so that who hears of the end sees it; on disk once nothing is held any more,
	// so that after a crash in between the exit, which the keeper still has, frees it again.
	next, _ := s.change(ctx, e, inMemory, func(c *Container) {
		c.moved(ev)
		st := &c.State
		st.Pid, st.Finished, st.ExitCode, st.Error = 0, x.Time.UTC(), x.Code, text
		st.OOMKilled = oomKilled
		st.Health = e.health.Load()
		if byUser {
			st.StoppedBy = StoppedByUser
		}
		if again {
			c.RestartCount++
		}
	})
	failpoint.Hit("gantryd.exit-known")
	s.execs.dropAll(e)
	if tellOOM {
		s.publish(next, events.ActionOOM, nil)
	}
	attrs := map[string]string{"exitCode": strconv.Itoa(x.Code), "execDuration": strconv.FormatInt(int64(ran/time.Second), 10)}
	s.publish(next, events.ActionDie, attrs)
	failpoint.Hit("gantryd.exit-told")
	s.releaseNetwork(ctx, rec)
	s.publishMounts(next, events.ActionUnmount)
	over := e.beginTearDown()
	ctx = context.WithoutCancel(ctx)
	s.behind.Go(func() {
		defer over()
		s.release(ctx, rec)
		failpoint.Hit("gantryd.exit-released")
		s.settle(ctx, e, x, ran, rec.HostConfig.AutoRemove && !keep)
	})
	// Ports and addresses are free, so who waits may go on.
	e.finish(false, exitResult{code: x.Code, err: text})
}

// settle records an exit once nothing is held any more, and starts again or removes as the container wants. Of one
// that was removed meanwhile there is nothing to record.
func (s *starter) settle(ctx context.Context, e *entry, x spec.Exit, ran time.Duration, remove bool) {
	_, unlock, err := s.open(ctx, e.id)
	if err != nil {
		s.forget(ctx, x.Key)
		return
	}
	defer unlock()
	d := soon
	if remove {
		d = inMemory // the removal that follows is the one commit
	}
	if _, err := s.change(ctx, e, d, func(c *Container) { c.Sandbox, c.Cgroup = spec.Sandbox{}, spec.Cgroup{} }); err != nil {
		s.log.Error("an exit could not be recorded", "container", e.id, "error", err)
	}
	failpoint.Hit("gantryd.exit-saved")
	if remove {
		if err := s.remove.removeLocked(ctx, e, RemoveOptions{Volumes: true}); err != nil {
			s.log.Error("an auto-remove container could not be removed", "container", e.id, "error", err)
		}
	}
	// Last: of a run so short that its start is on no disk, only the keeper can tell a successor that it has been.
	s.forget(ctx, x.Key)
	failpoint.Hit("gantryd.exit-forgotten")
	if !remove && e.snapshot().State.Status == Restarting {
		s.scheduleRestart(e, ran)
	}
}

func (s *starter) releaseNetwork(ctx context.Context, rec *Container) {
	if rec.Sandbox.ID == "" && len(rec.Sandbox.Endpoints) == 0 {
		return
	}
	if err := s.Networks.Release(ctx, rec.ID, rec.Sandbox); err != nil {
		s.log.Warn("a container's network could not be freed", "container", rec.ID, "error", err)
	}
	failpoint.Hit("gantryd.release-network")
}

// release frees what a run held besides its network and its files.
func (s *starter) release(ctx context.Context, rec *Container) {
	var errs []error
	if rec.Cgroup.Path != "" {
		errs = append(errs, s.Cgroups.Destroy(ctx, rec.Cgroup))
		failpoint.Hit("gantryd.release-cgroup")
	}
	errs = append(errs, s.dropShared(rec))
	if !rec.Volatile {
		errs = append(errs, os.RemoveAll(s.Config.filesDir(rec.ID)))
		failpoint.Hit("gantryd.release-files")
	}
	if err := errors.Join(errs...); err != nil {
		s.log.Warn("what a container held could not be freed", "container", rec.ID, "error", err)
	}
}

// wantsRestart is the restart policy's word on an exit that nobody asked for.
func (c *Container) wantsRestart(code int) bool {
	switch p := c.HostConfig.RestartPolicy; p.Name {
	case container.RestartPolicyAlways, container.RestartPolicyUnlessStopped:
		return true
	case container.RestartPolicyOnFailure:
		return code != 0 && (p.MaximumRetryCount == 0 || c.RestartCount < p.MaximumRetryCount)
	}
	return false
}

// scheduleRestart starts the container again after its back-off.
func (s *starter) scheduleRestart(e *entry, ran time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	failpoint.Hit("gantryd.restart-scheduled")
	e.restart = s.after(e.backoff.next(ran), func() { s.restartDue(e) })
}

func (s *starter) restartDue(e *entry) {
	ctx := s.base
	select {
	case <-s.ready: // what ended while the daemon was away is due before there are networks again
	case <-ctx.Done():
		return
	}
	got, unlock, err := s.open(ctx, e.id)
	if err != nil || got != e {
		return
	}
	defer unlock()
	if e.snapshot().State.Status != Restarting {
		return
	}
	e.mu.Lock()
	e.restart = nil
	e.mu.Unlock()
	failpoint.Hit("gantryd.restart-due")
	if err := s.launch(ctx, e, EvRestartDue); err != nil {
		s.log.Error("a container could not be started again", "container", e.id, "error", fmt.Sprint(err))
	}
}

// callOffRestart ends a pending restart: the container counts as exited.
func (c *core) callOffRestart(ctx context.Context, e *entry, by Stopper) error {
	e.mu.Lock()
	if e.restart != nil {
		e.restart()
		e.restart = nil
	}
	e.mu.Unlock()
	_, err := c.change(ctx, e, soon, func(r *Container) { r.moved(EvRestartOff); r.State.StoppedBy = by })
	if err == nil {
		e.finish(false, exitResult{code: e.snapshot().State.ExitCode})
	}
	return err
}
