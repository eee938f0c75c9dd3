// Package warm keeps things that are slow to make ready in advance. Whoever takes
// one gets it at once, a single background worker makes the next; when none is
// ready, the taker makes its own and does not queue behind others.
package warm

import (
	"sync"
	"time"
)

// pause is how long a pool that is not low waits before it makes more: the work would only get
// in the way of the start that the value was taken for.
const pause = 10 * time.Millisecond

// idle is how long after the last taker the pool shrinks back.
const idle = 30 * time.Second

// Maker says how values come and go.
type Maker[T any] struct {
	// Begin settles a value's place in the order (a network's next address) and gives the
	// function that makes it. Begin is called one at a time, in the order in which values
	// are handed out; what it returns runs side by side with others.
	Begin func() func() (T, error)
	// Drop ends a value that nobody took. Several are dropped last first.
	Drop func(T)
}

// Size bounds a pool. Limit 0 switches it off.
type Size struct {
	Idle  int // how many are kept ready when nobody has asked for a while
	Limit int // how many at most, when takers keep finding the pool empty
}

// Pool holds values, oldest first. Takers get them in the order in which they were begun.
type Pool[T any] struct {
	size  Size
	maker Maker[T]

	mu      sync.Mutex
	queue   []*slot[T]
	goal    int
	running bool
	wake    chan struct{}
	done    chan struct{}
	idle    time.Duration
}

// slot is a value that is ready, or that the worker is making.
type slot[T any] struct {
	value T
	err   error
	made  chan struct{}
}

// New describes a pool.
func New[T any](size Size, maker Maker[T]) *Pool[T] {
	size.Idle = min(size.Idle, size.Limit)
	return &Pool[T]{size: size, maker: maker, goal: size.Idle, idle: idle}
}

// Start begins filling. Before it, and after Stop, Take makes every value itself.
func (p *Pool[T]) Start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running || p.size.Limit == 0 {
		return
	}
	p.running, p.wake, p.done = true, make(chan struct{}, 1), make(chan struct{})
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
	defer p.mu.Unlock()
	p.cut(0)
}

// Take gives the oldest value, waiting for it if it is just being made, or makes one.
func (p *Pool[T]) Take() (T, error) {
	p.mu.Lock()
	s := p.next()
	if s == nil {
		build := p.maker.Begin()
		p.mu.Unlock()
		return build()
	}
	p.mu.Unlock()
	<-s.made
	return s.value, s.err
}

// spare gives the oldest value, waiting for it if it is just being made, and tells whether there was one.
func (p *Pool[T]) spare() (value T, ok bool) {
	p.mu.Lock()
	s := p.next()
	p.mu.Unlock()
	if s == nil {
		return value, false
	}
	<-s.made
	return s.value, s.err == nil
}

// next takes the oldest from the queue, nil if that is empty: then more will be kept. The caller holds the lock.
func (p *Pool[T]) next() *slot[T] {
	defer p.nudge()
	if len(p.queue) == 0 {
		p.goal = min(p.size.Limit, max(1, 2*p.goal))
		return nil
	}
	s := p.queue[0]
	p.queue = p.queue[1:]
	return s
}

// give adds a value that was used before and is as good as new. Up to twice the limit are kept: they were
// made already, and go when nobody has asked for a while.
func (p *Pool[T]) give(value T) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running || len(p.queue) >= 2*p.size.Limit {
		return false
	}
	made := make(chan struct{})
	close(made)
	p.queue = append(p.queue, &slot[T]{value: value, made: made})
	return true
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
	calm := time.NewTimer(p.idle)
	defer calm.Stop()
	for {
		select {
		case _, ok := <-wake:
			if !ok {
				return
			}
			calm.Reset(p.idle)
			if !p.settle(wake) {
				return
			}
			for p.fillOne() {
			}
		case <-calm.C:
			p.mu.Lock()
			p.goal = p.size.Idle
			p.cut(p.goal)
			p.mu.Unlock()
		}
	}
}

// settle lets whoever has just taken a value get on with it, as long as there are others. It tells
// whether the pool goes on.
func (p *Pool[T]) settle(wake <-chan struct{}) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	for p.stocked() {
		select {
		case _, ok := <-wake:
			if !ok {
				return false
			}
			t.Reset(pause)
		case <-t.C:
			return true
		}
	}
	return true
}

func (p *Pool[T]) stocked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue) > p.goal/4
}

// fillOne makes one more and tells whether to go on. A failure ends this round: whoever
// waited for the value gets the error, the next taker tries for itself.
func (p *Pool[T]) fillOne() bool {
	p.mu.Lock()
	if !p.running || len(p.queue) >= p.goal {
		p.mu.Unlock()
		return false
	}
	s := &slot[T]{made: make(chan struct{})}
	p.queue = append(p.queue, s)
	build := p.maker.Begin()
	p.mu.Unlock()
	s.value, s.err = build()
	close(s.made)
	if s.err == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, x := range p.queue {
		if x == s {
			p.queue = append(p.queue[:i:i], p.queue[i+1:]...)
			break
		}
	}
	return false
}

// cut drops all but the n oldest values. Only the worker calls it, or whoever has seen
// it end, so that none is being made. The caller holds the lock.
func (p *Pool[T]) cut(n int) {
	for len(p.queue) > n {
		last := len(p.queue) - 1
		s := p.queue[last]
		p.queue[last] = nil
		p.queue = p.queue[:last]
		p.maker.Drop(s.value)
	}
}
