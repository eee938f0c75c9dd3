package containers

import (
	"context"
	"errors"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/containers/signals"
)

// defaultStopTimeout is how long a container gets after its stop signal.
const defaultStopTimeout = 10 * time.Second

// killPatience bounds waiting for an exit after SIGKILL.
const killPatience = 30 * time.Second

// StopOptions are what stop and restart take.
type StopOptions struct {
	Signal  string // empty: the container's own
	Timeout *int   // seconds; nil: the container's own; negative: no end
}

type stopper struct {
	*core
	remove *remover
	start  *starter
}

// Stop asks the container to end, and makes it end when the time is over.
// errdefs.NotModified means that it does not run.
func (s *stopper) Stop(ctx context.Context, ref string, opts StopOptions) error {
	return s.halt(ctx, ref, opts, StoppedByUser)
}

func (s *stopper) halt(ctx context.Context, ref string, opts StopOptions, by Stopper) error {
	e, unlock, err := s.open(ctx, ref)
	if err != nil {
		return err
	}
	rec := e.snapshot()
	if err := rec.may(EvStop); err != nil {
		unlock()
		return err
	}
	if rec.State.Status == Restarting {
		defer unlock()
		if err := s.callOffRestart(ctx, e, by); err != nil {
			return err
		}
		s.publish(rec, events.ActionStop, nil)
		return nil
	}
	sig := rec.StopSignal()
	if opts.Signal != "" {
		sig = opts.Signal
	}
	num, err := signals.Parse(sig)
	if err != nil {
		unlock()
		return err
	}
	r := e.current()
	e.setStopping(true)
	err = s.deliver(ctx, rec, int(num))
	unlock()
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if err := s.waitOrKill(ctx, rec, r, s.stopTimeout(rec, opts.Timeout)); err != nil {
		return err
	}
	failpoint.Hit("gantryd.stop-ended")
	if by == StoppedByDaemon {
		return s.relabel(ctx, e, by)
	}
	s.publish(rec, events.ActionStop, nil)
	return nil
}

// relabel records that the daemon, not the user, ended the last run.
func (s *stopper) relabel(ctx context.Context, e *entry, by Stopper) error {
	_, unlock, err := s.open(ctx, e.id)
	if err != nil {
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	}
	defer unlock()
	_, err = s.change(ctx, e, soon, func(c *Container) { c.State.StoppedBy = by })
	return err
}

func (e *entry) setStopping(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopping = on
}

func (e *entry) setKeep(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keep = on
}

// stopTimeout is how long to wait; negative means for ever.
func (s *stopper) stopTimeout(rec *Container, asked *int) time.Duration {
	secs := asked
	if secs == nil {
		secs = rec.Config.StopTimeout
	}
	if secs == nil {
		secs = s.tuning.Load().StopTimeout
	}
	if secs == nil {
		return defaultStopTimeout
	}
	if *secs < 0 {
		return -1
	}
	return time.Duration(*secs) * time.Second
}

// waitOrKill waits for the run's end, then kills. No lock is held.
func (s *stopper) waitOrKill(ctx context.Context, rec *Container, r *run, d time.Duration) error {
	var over <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx) // the signal was sent; a client that hangs up calls nothing off
	case <-over:
	}
	return s.killAndWait(ctx, rec, r)
}

func (s *stopper) killAndWait(ctx context.Context, rec *Container, r *run) error {
	if err := s.deliver(ctx, rec, int(syscall.SIGKILL)); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	t := time.NewTimer(killPatience)
	defer t.Stop()
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return classed.Errorf(context.DeadlineExceeded, "container %s did not end within %v after SIGKILL: a process in it may hang in the kernel", rec.ID, killPatience)
	}
}

// deliver sends a signal and tells of it. A frozen process does not see signals:
// the container is thawed after one that should end it.
func (s *stopper) deliver(ctx context.Context, rec *Container, num int) error {
	if err := s.Processes.Signal(ctx, rec.Key(), num); err != nil {
		return err
	}
	failpoint.Hit("gantryd.stop-signalled")
	s.publish(rec, events.ActionKill, map[string]string{"signal": strconv.Itoa(num)})
	if rec.State.Status == Paused {
		return s.thaw(ctx, rec)
	}
	return nil
}

// thaw lets a frozen container see its signal, if it has not ended meanwhile.
func (c *core) thaw(ctx context.Context, rec *Container) error {
	if err := c.Cgroups.Freeze(ctx, rec.Cgroup, false); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// Kill sends a signal (name or number, empty for SIGKILL). SIGKILL waits for the end.
func (s *stopper) Kill(ctx context.Context, ref, sig string) error {
	num := syscall.SIGKILL
	if sig != "" {
		var err error
		if num, err = signals.Parse(sig); err != nil {
			return err
		}
	}
	e, unlock, err := s.open(ctx, ref)
	if errdefs.IsNotFound(err) {
		return classed.Errorf(errdefs.ErrNotFound, "cannot kill container: %s: %w", ref, err)
	}
	if err != nil {
		return err
	}
	rec := e.snapshot()
	if err := rec.may(EvKill); err != nil {
		unlock()
		return classed.Conflict("cannot kill container: %s: %w", ref, err)
	}
	r := e.current()
	if num == syscall.SIGKILL || strconv.Itoa(int(num)) == rec.StopSignal() || signals.Same(rec.StopSignal(), num) {
		e.setStopping(true) // what ends the container on the user's word is no failure
	}
	err = s.Processes.Signal(ctx, rec.Key(), int(num))
	if err == nil {
		s.publish(rec, events.ActionKill, map[string]string{"signal": strconv.Itoa(int(num))})
		if rec.State.Status == Paused && num == syscall.SIGKILL {
			err = s.thaw(ctx, rec)
		}
	}
	unlock()
	if err != nil {
		if errdefs.IsNotFound(err) {
			return classed.Conflict("cannot kill container: %s: container %s is not running", ref, rec.ID)
		}
		return err
	}
	failpoint.Hit("gantryd.kill-sent")
	if num == syscall.SIGKILL {
		return s.killed(ctx, r)
	}
	return nil
}

func (s *stopper) killed(ctx context.Context, r *run) error {
	t := time.NewTimer(killPatience)
	defer t.Stop()
	select {
	case <-r.ended:
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// Restart stops a running container and starts it.
func (s *stopper) Restart(ctx context.Context, ref string, opts StopOptions) error {
	e, err := s.reg.get(ref)
	if err != nil {
		return err
	}
	e.setKeep(true) // --rm means removal after the last run, and this is not it
	defer e.setKeep(false)
	if err := s.Stop(ctx, e.id, opts); err != nil && !errors.Is(err, errdefs.ErrNotModified) {
		return err
	}
	failpoint.Hit("gantryd.restart-stopped")
	if err := s.start.Start(ctx, e.id); err != nil && !errors.Is(err, errdefs.ErrNotModified) {
		return err
	}
	s.publish(e.snapshot(), events.ActionRestart, nil)
	return nil
}

type pauser struct {
	*core
	health *healthMonitor
}

// Pause freezes all processes of a running container.
func (p *pauser) Pause(ctx context.Context, ref string) error {
	return p.freeze(ctx, ref, EvPause, true, events.ActionPause)
}

// Unpause thaws a paused container.
func (p *pauser) Unpause(ctx context.Context, ref string) error {
	return p.freeze(ctx, ref, EvUnpause, false, events.ActionUnPause)
}

func (p *pauser) freeze(ctx context.Context, ref string, ev Event, frozen bool, action events.Action) error {
	e, unlock, err := p.open(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	rec := e.snapshot()
	if err := rec.may(ev); err != nil {
		return err
	}
	if err := p.Cgroups.Freeze(ctx, rec.Cgroup, frozen); err != nil {
		return err
	}
	failpoint.Hit("gantryd.pause-frozen")
	next, err := p.change(ctx, e, soon, func(c *Container) { c.moved(ev) })
	if err != nil {
		return errors.Join(err, p.Cgroups.Freeze(context.WithoutCancel(ctx), rec.Cgroup, !frozen))
	}
	p.publish(next, action, nil)
	return nil
}
