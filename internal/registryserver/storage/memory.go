package storage

import (
	"container/list"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// bodies keeps the manifests that were read last, up to a number of bytes. Content never changes, so nothing has to be
// taken out; whether somebody may see it is asked of the database each time.
type bodies struct {
	mu    sync.Mutex
	room  int
	order *list.List // of body, the latest first
	by    map[digest.Digest]*list.Element
}

type body struct {
	d digest.Digest
	b []byte
}

func newBodies(room int) *bodies {
	return &bodies{room: room, order: list.New(), by: map[digest.Digest]*list.Element{}}
}

func (c *bodies) get(d digest.Digest) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.by[d]
	if e == nil {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(body).b, true
}

func (c *bodies) put(d digest.Digest, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[d] != nil || len(b) > c.room {
		return
	}
	c.room -= len(b)
	c.by[d] = c.order.PushFront(body{d, b})
	for c.room < 0 {
		last := c.order.Back()
		old := c.order.Remove(last).(body)
		delete(c.by, old.d)
		c.room += len(old.b)
	}
}

// touched remembers what was asked for lately: a client that found a blob here will refer to it without sending it. What was
// touched is forgotten after one to two times the span.
type touched struct {
	mu        sync.Mutex
	turned    time.Time
	now, last map[touch]time.Time
}

type touch struct {
	repo string
	d    digest.Digest
}

// touchSpan is the longest grace that touches are kept for.
const touchSpan = 24 * time.Hour

func newTouched() *touched { return &touched{turned: time.Now(), now: map[touch]time.Time{}} }

func (t *touched) touch(repo string, d digest.Digest) {
	at := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if at.Sub(t.turned) > touchSpan {
		t.last, t.now, t.turned = t.now, map[touch]time.Time{}, at
	}
	t.now[touch{repo, d}] = at
}

// at is when something was touched last; zero if that is too long ago.
func (t *touched) at(repo string, d digest.Digest) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, ok := t.now[touch{repo, d}]; ok {
		return at
	}
	return t.last[touch{repo, d}]
}
