// Package events tells clients what happened: services publish, any number of
// clients subscribe, and the last 256 events can be asked for again.
package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/filters"
)

const (
	// Kept is how many past events can be asked for with "since".
	Kept = 256
	// maxBehind is how many events a subscriber may lag; then it is cut off,
	// so that it sees a broken stream and not one with a hole.
	maxBehind = 8192
)

// Service is the hub. The zero value is not usable; see New.
type Service struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	last int64 // TimeNano of the newest event: time never runs backwards in the stream
	ring []events.Message
	next int // where the next event goes once the ring is full
	subs map[*Subscription]struct{}
}

// New makes an empty hub.
func New(log *slog.Logger) *Service {
	return &Service{log: log, now: time.Now, subs: map[*Subscription]struct{}{}}
}

// Publish sends an event to all subscribers. It never waits for them. Time and
// scope are filled in where they are missing.
func (s *Service) Publish(m events.Message) {
	if m.Scope == "" {
		m.Scope = "local"
	}
	if m.Actor.Attributes == nil {
		m.Actor.Attributes = map[string]string{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.TimeNano == 0 {
		m.TimeNano = s.now().UnixNano()
	}
	// Two events never share a time, so that "since the last one" is exact. A
	// clock that was set back is followed.
	if s.last-m.TimeNano < int64(time.Second) {
		m.TimeNano = max(m.TimeNano, s.last+1)
	}
	m.Time = m.TimeNano / int64(time.Second)
	s.last = m.TimeNano
	if len(s.ring) < Kept {
		s.ring = append(s.ring, m)
	} else {
		s.ring[s.next] = m
		s.next = (s.next + 1) % Kept
	}
	for sub := range s.subs {
		if !sub.push(m) {
			delete(s.subs, sub)
			s.log.Warn("a client does not read its events and was cut off", "events", maxBehind)
		}
	}
}

// Listeners is the number of subscribers.
func (s *Service) Listeners() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.subs)
}

// Query selects events. Zero times mean no bound.
type Query struct {
	Since, Until time.Time
	Filters      filters.Args
}

// Subscribe starts a stream: kept events from Since on (none without Since and
// Until), then new ones until Until.
func (s *Service) Subscribe(q Query) (*Subscription, error) {
	if err := q.Filters.Check(filterKeys...); err != nil {
		return nil, err
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && q.Until.Before(q.Since) {
		return nil, fmt.Errorf("`since` time (%s) cannot be after `until` time (%s): %w", q.Since.Format(time.RFC3339Nano), q.Until.Format(time.RFC3339Nano), errdefs.ErrInvalidArgument)
	}
	sub := &Subscription{s: s, q: q, more: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !q.Since.IsZero() || !q.Until.IsZero() {
		for _, m := range slices.Concat(s.ring[s.next:], s.ring[:s.next]) {
			if q.Since.IsZero() || m.TimeNano >= q.Since.UnixNano() {
				sub.push(m)
			}
		}
	}
	s.subs[sub] = struct{}{}
	return sub, nil
}

var errLagged = errors.New("the client does not read its events: too many are waiting")

// Subscription is one client's stream.
type Subscription struct {
	s    *Service
	q    Query
	more chan struct{}

	mu     sync.Mutex
	queue  []events.Message
	lagged bool
}

// push queues an event that matches; false means that the client is too slow.
func (sub *Subscription) push(m events.Message) bool {
	if !matches(sub.q.Filters, m) || !sub.q.Until.IsZero() && m.TimeNano > sub.q.Until.UnixNano() {
		return true
	}
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if len(sub.queue) >= maxBehind {
		sub.lagged, sub.queue = true, nil
	} else {
		sub.queue = append(sub.queue, m)
	}
	select {
	case sub.more <- struct{}{}:
	default:
	}
	return !sub.lagged
}

func (sub *Subscription) pop() (m events.Message, ok, lagged bool) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if len(sub.queue) == 0 {
		return m, false, sub.lagged
	}
	m = sub.queue[0]
	sub.queue = sub.queue[1:]
	return m, true, false
}

// Next waits for an event. io.EOF comes after Until, the context's cause when it ends.
func (sub *Subscription) Next(ctx context.Context) (events.Message, error) {
	var until <-chan time.Time
	if !sub.q.Until.IsZero() {
		t := time.NewTimer(time.Until(sub.q.Until))
		defer t.Stop()
		until = t.C
	}
	over := false
	for {
		m, ok, lagged := sub.pop()
		switch {
		case ok:
			return m, nil
		case lagged:
			return events.Message{}, errLagged
		case over:
			return events.Message{}, io.EOF
		}
		select {
		case <-sub.more:
		case <-until:
			over = true
		case <-ctx.Done():
			return events.Message{}, context.Cause(ctx)
		}
	}
}

// Close ends the stream.
func (sub *Subscription) Close() {
	sub.s.mu.Lock()
	defer sub.s.mu.Unlock()
	delete(sub.s.subs, sub)
}
