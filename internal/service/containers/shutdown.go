package containers

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Shutdown ends the service. With live-restore containers run on; otherwise all
// are stopped in parallel, each with its own time-out, within Config.ShutdownTimeout.
func (r *recoverer) Shutdown(ctx context.Context) error {
	defer r.behind.Wait()
	if r.Config.LiveRestore {
		r.core.stop(errShutdown)
		return nil
	}
	limit := r.Config.ShutdownTimeout
	for _, rec := range r.reg.all() {
		if rec.Running() {
			if t := r.stop.stopTimeout(rec, nil); t > 0 {
				limit = max(limit, t+5*time.Second)
			}
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errShutdown)
	defer cancel()
	var wg sync.WaitGroup
	for _, e := range r.reg.entries() {
		if !e.snapshot().Running() {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := r.stop.halt(ctx, e.id, StopOptions{}, StoppedByDaemon); err != nil {
				r.log.Error("a container did not stop with the engine", "container", e.id, "error", err)
			}
			if unlock, err := r.locks.Lock(ctx, e.id); err == nil { // its tear-down is over
				unlock()
			}
		}()
	}
	wg.Wait()
	r.core.stop(errShutdown)
	return nil
}

var errShutdown = errors.New("the engine stops")
