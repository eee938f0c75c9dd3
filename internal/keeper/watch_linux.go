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
	if p.watches == nil {
		p.watches = map[*watch]struct{}{}
	}
	p.watches[w] = struct{}{}
	c.addWatch(w)
	if w.pos < tail || p.drained {
		w.announce(tail)
	}
	return w
}

// announce tells all who watch of the spool's tail. p.mu is held.
func (p *proc) announce() {
	tail := p.sp.slot.tail.Load()
	for w := range p.watches {
		w.announce(tail)
	}
}
