package containers

import (
	"context"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
)

// Defaults of a health check, and how many results inspect shows.
const (
	probeInterval      = 30 * time.Second
	probeTimeout       = 30 * time.Second
	probeStartInterval = 5 * time.Second
	probeRetries       = 3
	probeLog           = 5
)

// healthMonitor probes running containers that have a health check.
type healthMonitor struct {
	*core
	execs *execs
}

// probeCommand is the command of a health check, or nil if there is none.
func probeCommand(rec *Container) []string {
	h := rec.Config.Healthcheck
	if h == nil || len(h.Test) == 0 {
		return nil
	}
	switch h.Test[0] {
	case "CMD":
		return h.Test[1:]
	case "CMD-SHELL":
		shell := rec.Config.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return slices.Concat(shell, h.Test[1:])
	}
	return nil
}

// begin starts probing a container that was just started or taken over.
func (m *healthMonitor) begin(e *entry, rec *Container) {
	cmd := probeCommand(rec)
	if len(cmd) == 0 {
		e.health.Store(nil)
		return
	}
	h := rec.State.Health // of a container that was taken over
	if h == nil {
		h = &container.Health{Status: container.Starting}
	}
	e.health.Store(h)
	r := e.current()
	go m.loop(e, r, cmd, rec.Config.Healthcheck, rec.State.Started)
}

// end marks a stopped container: a container that does not run is not healthy.
func (m *healthMonitor) end(e *entry) {
	if h := e.health.Load(); h != nil {
		next := *h
		next.Status = container.Unhealthy
		e.health.Store(&next)
	}
}

func (m *healthMonitor) loop(e *entry, r *run, cmd []string, h *container.HealthConfig, started time.Time) {
	ctx, cancel := context.WithCancel(m.base)
	defer cancel()
	go func() {
		select {
		case <-r.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		wait := or(h.Interval, probeInterval)
		starting := h.StartPeriod > 0 && m.now().Sub(started) < h.StartPeriod
		if cur := e.health.Load(); starting && cur != nil && cur.Status == container.Starting {
			wait = or(h.StartInterval, probeStartInterval)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		if e.snapshot().State.Status != Running { // paused: no probe can run
			continue
		}
		begin := m.now()
		code, out, err := m.execs.probe(ctx, e, cmd, or(h.Timeout, probeTimeout))
		if ctx.Err() != nil {
			return
		}
		if err != nil && out == "" {
			out = err.Error()
		}
		m.result(e, h, &container.HealthcheckResult{Start: begin, End: m.now(), ExitCode: code, Output: out}, begin.Sub(started))
	}
}

// nextHealth is what a probe's result makes of a container's health: pure.
func nextHealth(old container.Health, h *container.HealthConfig, res *container.HealthcheckResult, age time.Duration) container.Health {
	next := old
	next.Log = append(slices.Clone(old.Log), res)
	if n := len(next.Log); n > probeLog {
		next.Log = next.Log[n-probeLog:]
	}
	if res.ExitCode == 0 {
		next.Status, next.FailingStreak = container.Healthy, 0
		return next
	}
	if old.Status == container.Starting && age < h.StartPeriod {
		return next // failures of a container that still warms up do not count
	}
	next.FailingStreak++
	retries := h.Retries
	if retries <= 0 {
		retries = probeRetries
	}
	if next.FailingStreak >= retries {
		next.Status = container.Unhealthy
	}
	return next
}

func (m *healthMonitor) result(e *entry, h *container.HealthConfig, res *container.HealthcheckResult, age time.Duration) {
	old := e.health.Load()
	if old == nil {
		return
	}
	next := nextHealth(*old, h, res, age)
	if !e.health.CompareAndSwap(old, &next) {
		return // the container ended meanwhile
	}
	if next.Status != old.Status {
		m.keep(e, &next)
		m.publish(e.snapshot(), events.Action("health_status: "+string(next.Status)), nil)
	}
}

// keep records a new status.
func (m *healthMonitor) keep(e *entry, h *container.Health) {
	_, unlock, err := m.open(m.base, e.id)
	if err != nil {
		return // removed or shutting down
	}
	defer unlock()
	if e.health.Load() != h {
		return // it ended meanwhile, or another result came
	}
	if _, err := m.change(m.base, e, soon, func(c *Container) { c.State.Health = h }); err != nil {
		m.log.Warn("a container's health could not be recorded", "container", e.id, "error", err)
	}
}

func or(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}
