package keeper

import (
	"github.com/gantry-engine/gantry/internal/keeperproto"
)

// watch is one attached client's position in a spool.
type watch struct {
	id     uint32
	c      *client
	p      *proc
	pos    uint64 // consumed before
	told   uint64 // tail that was announced last
	asleep bool   // has consumed what was announced
}

// announce tells the client of a new tail, once until it has answered. p.mu is held.
func (w *watch) announce(tail uint64) {
	if !w.asleep {
		return
	}
	w.asleep, w.told = false, tail
	w.c.notify(w)
}

// ack moves a watch on. p.mu is held.
func (w *watch) ack(pos uint64, kept *retention) {
	if w.p.sp.slot == nil {
		return
	}
	tail := w.p.sp.slot.tail.Load()
	w.pos = max(w.pos, min(pos, tail))
	if w.pos < tail || w.p.drained && w.told < tail {
		w.told = tail
		w.c.notify(w)
		return
	}
	w.asleep = true
	if w.p.drained {
		w.announce(tail)
	}
	kept.punch(w.p)
}

// addWatch begins a watch at pos, or at the spool's end. p.mu is held.
func (p *proc) addWatch(c *client, id uint32, pos uint64) *watch {
	tail, floor := p.sp.slot.tail.Load(), p.sp.slot.floor.Load()
	if pos == keeperproto.WatchFromNow || pos > tail {
		pos = tail
	}
	w := &watch{id: id, c: c, p: p, pos: max(pos, floor), told: tail, asleep: true}
	p.watches.add(w)
	c.addWatch(w)
	if w.pos < tail || p.drained {
		w.announce(tail)
	}
	return w
}

// audience is all who watch a spool. The lock of its process is held.
type audience map[*watch]struct{}

func (a *audience) add(w *watch) {
	if *a == nil {
		*a = audience{}
	}
	(*a)[w] = struct{}{}
}

func (a audience) drop(w *watch) { delete(a, w) }

// announce tells all of the spool's tail.
func (a audience) announce(tail uint64) {
	for w := range a {
		w.announce(tail)
	}
}

// hurry moves every watch that is more than behind bytes from the tail to the position to: its reader finds the floor
// above its own position and tells how much it missed.
func (a audience) hurry(tail, behind, to uint64) {
	for w := range a {
		if tail-w.pos > behind {
			w.pos = max(w.pos, to)
		}
	}
}

// lowest is the position of the one that is furthest behind, at most pos.
func (a audience) lowest(pos uint64) uint64 {
	for w := range a {
		pos = min(pos, w.pos)
	}
	return pos
}

// dismiss ends all watches. Each is announced once more: one that had not answered yet was not told of the end, and
// nobody listens to its answer any more.
func (a *audience) dismiss() {
	for w := range *a {
		w.c.notify(w)
		w.c.dropWatch(w)
	}
	*a = nil
}
