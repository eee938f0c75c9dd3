package keeper

import (
	"time"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// batch writes what is in the spool before tail, or some of it. Errors are told once; the cursor moves in any
// case, so that a log that cannot be written never stops the process.
func (w *logWriter) batch(s *spool, b *logBuf, tail uint64) error {
	c := &b.cur
	commit := func() { w.commit(s.slot, c) }
	if w.file.cfg.NonBlocking && tail-c.frame > uint64(w.file.cfg.MaxBuffer)+spliceMax {
		return w.skip(s, c, tail, nil) // the disk is too slow: newer output is wanted more
	}
	broken := !w.full.IsZero() && time.Since(w.full) < fullRetry
	var problem error
	if !broken {
		problem = w.file.ready(c, commit)
		broken = problem != nil
	}
	limit := w.file.cfg.MaxSize
	if broken {
		limit = 0
	}
	if d := s.slot.dropped.Load(); d != c.dropSeen { // the spool had no room for it
		c.lostB, c.dropSeen = c.lostB+d-c.dropSeen, d
	}
	before := *c
	carried := [2]int{len(c.carry[0]), len(c.carry[1])}
	b.out, b.moved = b.out[:0], 0
	in := b.in[:min(tail-c.frame, uint64(len(b.in)))]
	if err := s.read(in, c.frame); err != nil {
		return w.skip(s, c, tail, err)
	}
	if !broken {
		w.note(b, in)
	}
	if err := w.format(b, in, limit); err != nil {
		return w.skip(s, c, tail, err)
	}
	if c.frame >= tail && s.ended() && c.flushed == 0 && s.slot.tail.Load() == tail {
		if !broken { // what comes last may be what is missing
			w.noteAt(b, s.slot.endTime.Load())
		}
		w.flush(b, s.slot.endTime.Load())
	}
	if !broken && len(b.out) > 0 {
		failpoint.Hit("keeper.log-write")
		c.offset, problem = w.file.write(b.out, c.offset)
		broken = problem != nil
		failpoint.Hit("keeper.log-written")
	}
	if broken {
		if w.full.IsZero() || problem != nil {
			w.full = time.Now()
		}
		c.offset, c.lostB = before.offset, before.lostB+b.moved+uint64(carried[0]+carried[1])
		c.lostB -= min(c.lostB, uint64(len(c.carry[0])+len(c.carry[1])))
		if before.lostB > 0 {
			problem = nil // told already
		}
	} else {
		w.full = time.Time{}
	}
	commit()
	failpoint.Hit("keeper.log-committed")
	if !broken && w.file.cfg.MaxSize > 0 && c.offset >= w.file.cfg.MaxSize {
		if err := w.file.rotate(c, commit); err != nil {
			w.full = time.Now()
			return err
		}
	}
	return problem
}

// skip goes on at the spool's end; what is left out is noted in the log.
func (w *logWriter) skip(s *spool, c *logCursor, tail uint64, err error) error {
	c.lostB += s.payload(c.frame, tail) - c.inside
	for i := range c.carry {
		c.lostB += uint64(len(c.carry[i]))
		c.carry[i] = c.carry[i][:0]
	}
	c.frame, c.inside = tail, 0
	w.commit(s.slot, c)
	return err
}
