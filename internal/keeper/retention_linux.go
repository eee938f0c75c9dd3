package keeper

import (
	"sync/atomic"
	"time"
)

// resumeGrace is how long a new keeper keeps everything for clients that were attached
// to the former one.
const resumeGrace = 10 * time.Second

// retention decides how much of the spools stays. What the log and the attached clients have consumed goes back to the
// system; a client that lags too far behind loses what it has not read. Any goroutine may ask.
type retention struct {
	perProc, total int64 // unread bytes kept for attached clients

	unread atomic.Int64 // of all processes
	grace  atomic.Int64 // until when (Unix ns) nothing is punched: watches are coming back
}

func newRetention(perProc, total int64) *retention {
	if perProc <= 0 {
		perProc = defaultSpool
	}
	if total <= 0 {
		total = defaultTotal
	}
	return &retention{perProc: perProc, total: total}
}

// keepAll has everything kept until the clients of the former keeper are attached again, or had their time.
func (r *retention) keepAll() { r.grace.Store(time.Now().Add(resumeGrace).UnixNano()) }

// resumed says that those clients are attached.
func (r *retention) resumed() { r.grace.Store(0) }

func (r *retention) keepsAll() bool {
	until := r.grace.Load()
	if until == 0 {
		return false
	}
	if time.Now().UnixNano() < until {
		return true
	}
	r.grace.Store(0)
	return false
}

// grew counts n more bytes in a spool.
func (r *retention) grew(n int) { r.unread.Add(int64(n)) }

// took counts what a spool that was recovered holds.
func (r *retention) took(s *spool) { r.unread.Add(int64(s.slot.tail.Load() - s.slot.floor.Load())) }

// gave no longer counts what a spool holds that goes.
func (r *retention) gave(s *spool) { r.unread.Add(-int64(s.slot.tail.Load() - s.slot.floor.Load())) }

// pauseAt is how many unlogged bytes make a process wait for its log.
func (r *retention) pauseAt(p *proc) uint64 {
	if p.meta.log.NonBlocking {
		return uint64(r.perProc) // the log writer skips; only a disk that hangs gets here
	}
	return pauseAt
}

// punch gives back what log and watches have consumed, and takes from laggards what is over the
// limit. p.mu is held.
func (r *retention) punch(p *proc) {
	if p.gone || p.sp.slot == nil || r.keepsAll() {
		return
	}
	tail, floor := p.sp.slot.tail.Load(), p.sp.slot.floor.Load()
	limit := uint64(r.perProc)
	if r.unread.Load() > r.total {
		limit = min(limit, fairShare)
	}
	if tail-floor > limit {
		p.watches.hurry(tail, limit/2, p.logPos)
	}
	low := p.watches.lowest(p.logPos)
	enough := uint64(punchIdle)
	if low != tail {
		enough = punchBusy
	}
	if low >= floor+enough {
		p.sp.punch(low)
		r.unread.Add(-int64(low - floor))
	}
}

// makeRoom takes from every laggard of p all that it lags, and tells whether that gave anything back. p.mu is held.
func (r *retention) makeRoom(p *proc) bool {
	before := p.sp.slot.floor.Load()
	p.watches.hurry(p.sp.slot.tail.Load(), 0, p.logPos)
	r.punch(p)
	return p.sp.slot.floor.Load() > before
}
