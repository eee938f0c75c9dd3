package transfer

import (
	"context"
	"sync"
)

// Slots bound how many do something at once. The bound may change meanwhile.
type Slots struct {
	mu      sync.Mutex
	max     int // 0 is without bound
	used    int
	waiting []chan struct{}
}

// NewSlots gives that many slots; 0 is without bound.
func NewSlots(n int) *Slots { return &Slots{max: n} }

// Acquire waits for a slot, in turn.
func (s *Slots) Acquire(ctx context.Context) (release func(), err error) {
	s.mu.Lock()
	if s.max <= 0 || s.used < s.max {
		s.used++
		s.mu.Unlock()
		return s.release, nil
	}
	turn := make(chan struct{})
	s.waiting = append(s.waiting, turn)
	s.mu.Unlock()
	select {
	case <-turn:
		return s.release, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.waiting {
		if w == turn {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return nil, context.Cause(ctx)
		}
	}
	s.pass() // the turn came at that moment
	return nil, context.Cause(ctx)
}

func (s *Slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass()
}

// pass gives a slot back, and to who waits first. The caller holds mu.
func (s *Slots) pass() {
	s.used--
	s.wake()
}

func (s *Slots) wake() {
	for len(s.waiting) > 0 && (s.max <= 0 || s.used < s.max) {
		s.used++
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
	}
}

// Resize changes the bound.
func (s *Slots) Resize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.max = n
	s.wake()
}
