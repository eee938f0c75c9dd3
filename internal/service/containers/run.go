package containers

import (
	"sync"
	"time"
)

// run is one run of a container: two latches that waiters and attached clients
// wait on. An entry always has one: the present run, or the next.
type run struct {
	started chan struct{} // closed once the user's program runs
	ended   chan struct{} // closed once it ended, or the start failed
	once    sync.Once

	// valid after ended is closed
	failed bool // the start failed: there was no run
	exit   exitResult
}

type exitResult struct {
	code int
	err  string
}

func newRun() *run { return &run{started: make(chan struct{}), ended: make(chan struct{})} }

// current is the present run, or the next one if none goes on.
func (e *entry) current() *run {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.run
}

// markStarted opens the present run's first latch.
func (e *entry) markStarted() {
	r := e.current()
	r.once.Do(func() { close(r.started) })
}

// finish ends the present run and makes the next one.
func (e *entry) finish(failed bool, res exitResult) {
	e.mu.Lock()
	r := e.run
	e.run = newRun()
	e.mu.Unlock()
	r.failed, r.exit = failed, res
	close(r.ended)
}

// beginTearDown notes that a run's resources are about to be freed; over says that they are.
func (e *entry) beginTearDown() (over func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	torn := make(chan struct{})
	e.torn = torn
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.torn = nil
		close(torn)
	}
}

// tearDown is closed when what the last run held is free; nil means that it is.
func (e *entry) tearDown() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.torn
}

// awaitTearDown waits for it.
func (e *entry) awaitTearDown() {
	if torn := e.tearDown(); torn != nil {
		<-torn
	}
}

// markRemoved tells waiters that the container is gone.
func (e *entry) markRemoved() {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.removed:
	default:
		close(e.removed)
	}
}

// Restart back-off: doubles from backoffMin to backoffMax, starts over after a
// run of backoffReset.
const (
	backoffMin   = 100 * time.Millisecond
	backoffMax   = time.Minute
	backoffReset = 10 * time.Second
)

type backoff struct{ last time.Duration }

// next is how long to wait before the next start, after a run of the given length.
func (b *backoff) next(ran time.Duration) time.Duration {
	switch {
	case b.last == 0 || ran >= backoffReset:
		b.last = backoffMin
	default:
		b.last = min(2*b.last, backoffMax)
	}
	return b.last
}
