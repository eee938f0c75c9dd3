// Package warm keeps things that are slow to make ready in advance. Whoever takes
// one gets it at once, a single background worker makes the next; when none is
// ready, the taker makes its own and does not queue behind the worker.
package warm

import (
	"sync"
	"time"
)

// floor is how many are kept ready when nobody has asked for a while.
const floor = 4

// idle is how long after the last miss the pool shrinks back to floor.
const idle = 30 * time.Second

// Pool holds ready values, oldest first. It grows towards its limit when takers
// find it empty, and shrinks to a few when nobody comes.
type Pool[T any] struct {
	limit int
	make  func() (T, error)
	drop  func(T)

	mu      sync.Mutex
	ready   []T
	goal    int
	running bool
	wake    chan struct{}
	done    chan struct{}
}

// New describes a pool of at most limit values; 0 switches it off.
func New[T any](limit int, make func() (T, error), drop func(T)) *Pool[T] {
	return &Pool[T]{limit: limit, make: make, drop: drop, goal: min(limit, floor)}
}

// Start begins filling; the first value is made at once, so that whoever comes first
// gets the first (a network's lowest address). Before it, and after Stop, Take makes every value itself.
func (p *Pool[T]) Start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running || p.limit == 0 {
		return
	}
	p.running, p.wake, p.done = true, make(chan struct{}, 1), make(chan struct{})
	if v, err := p.make(); err == nil {
		p.ready = append(p.ready, v)
	}
	p.wake <- struct{}{}
	go p.work(p.wake, p.done)
}

// Stop ends the worker and drops what is ready.
func (p *Pool[T]) Stop() {
	p.mu.Lock()
	if !p.running {
		p.mu.Unlock()
		return
	}
	p.running = false
	close(p.wake)
	done := p.done
	p.mu.Unlock()
	<-done
	p.mu.Lock()
	left := p.ready
	p.ready = nil
	p.mu.Unlock()
	for _, v := range left {
		p.drop(v)
	}
}

// Take gives a ready value, or makes one.
func (p *Pool[T]) Take() (T, error) {
	v, ok := p.TakeReady()
	if ok {
		return v, nil
	}
	return p.make()
}

// TakeReady gives a value only if one is ready.
func (p *Pool[T]) TakeReady() (v T, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ready) > 0 {
		v, ok = p.ready[0], true
		p.ready = p.ready[1:]
	} else {
		p.goal = min(p.limit, 2*p.goal)
	}
	p.nudge()
	return v, ok
}

// Ready is how many are ready now.
func (p *Pool[T]) Ready() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ready)
}

func (p *Pool[T]) nudge() {
	if p.running {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

func (p *Pool[T]) work(wake <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	calm := time.NewTimer(idle)
	defer calm.Stop()
	for {
		select {
		case _, ok := <-wake:
			if !ok {
				return
			}
			calm.Reset(idle)
			for p.fillOne() {
			}
		case <-calm.C:
			p.shrink()
		}
	}
}

// fillOne makes one more and tells whether to go on. A failure ends this round:
// the next taker meets the same error itself and reports it.
func (p *Pool[T]) fillOne() bool {
	p.mu.Lock()
	enough := !p.running || len(p.ready) >= p.goal
	p.mu.Unlock()
	if enough {
		return false
	}
	v, err := p.make()
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = append(p.ready, v)
	return true
}

func (p *Pool[T]) shrink() {
	p.mu.Lock()
	p.goal = min(p.limit, floor)
	var extra []T
	if len(p.ready) > p.goal {
		extra = append(extra, p.ready[p.goal:]...)
		p.ready = append([]T(nil), p.ready[:p.goal]...)
	}
	p.mu.Unlock()
	for _, v := range extra {
		p.drop(v)
	}
}
