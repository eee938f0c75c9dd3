package keeper

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// kick lets a worker write p's log, if there is anything to write and none is at
// it. p.mu is held.
func (k *Keeper) kick(p *proc) {
	if p.logBusy || p.gone || p.sp.slot == nil {
		return
	}
	tail := p.sp.slot.tail.Load()
	if p.meta.log.Driver == keeperproto.LogNone {
		p.logPos = tail
		p.flushed = p.drained
		return
	}
	if p.logPos == tail && (!p.drained || p.flushed) {
		return
	}
	p.logBusy = true
	go k.logRun(p)
}

// logRun is one worker's turn with one process: until its log has caught up.
func (k *Keeper) logRun(p *proc) {
	b := <-k.bufs
	defer func() { k.bufs <- b }()
	if b.in == nil {
		b.in, b.out = make([]byte, logInput), make([]byte, 0, logOutput+64<<10)
	}
	p.sp.slot.load(&b.cur)
	w := &p.log
	w.saved = b.cur.frame
	for {
		failpoint.Hit("keeper.log-batch")
		tail := p.sp.slot.tail.Load()
		err := k.logBatch(p, w, b, tail)
		if err != nil {
			k.log.printf("log of %s: %v", p.key, err)
		}
		p.mu.Lock()
		p.logPos = w.saved // what is after it may be formatted again
		caughtUp := b.cur.frame >= p.sp.slot.tail.Load()
		p.flushed = p.drained && caughtUp && b.cur.flushed != 0
		if p.paused && p.sp.slot.tail.Load()-p.logPos < resumeAt {
			p.paused = false
			k.loop.post(func() { k.enqueue(p) })
		}
		k.punch(p)
		done := p.gone || caughtUp && (!p.drained || p.flushed)
		if done {
			p.logBusy = false
			if p.gone {
				p.closeAll()
			}
			k.tellIfDone(p)
		}
		p.mu.Unlock()
		if done {
			break
		}
	}
	// A long line or a burst may have grown what is shared; it does not stay so.
	if cap(b.out) > 4*logOutput {
		b.out = make([]byte, 0, logOutput+64<<10)
	}
}

// logBatch writes one batch. Errors are told once; the cursor moves in any case, so that a
// log that cannot be written never stops the process.
func (k *Keeper) logBatch(p *proc, w *logWriter, b *logBuf, tail uint64) error {
	c := &b.cur
	commit := func() { w.commit(p.sp.slot, c) }
	if w.cfg.NonBlocking && tail-c.frame > uint64(w.cfg.MaxBuffer)+spliceMax {
		return k.skipSpool(p, c, tail, nil) // the disk is too slow: newer output is wanted more
	}
	broken := !w.full.IsZero() && time.Since(w.full) < fullRetry
	var problem error
	if !broken {
		problem = w.ready(c, commit)
		broken = problem != nil
	}
	limit := w.cfg.MaxSize
	if broken {
		limit = 0
	}
	if d := p.sp.slot.dropped.Load(); d != c.dropSeen { // the spool had no room for it
		c.lostB, c.dropSeen = c.lostB+d-c.dropSeen, d
	}
	before := *c
	carried := [2]int{len(c.carry[0]), len(c.carry[1])}
	b.out, b.moved = b.out[:0], 0
	in, err := k.readSpool(p, b, tail)
	if err != nil {
		return k.skipSpool(p, c, tail, err)
	}
	if !broken {
		w.note(b, in)
	}
	if err := w.format(b, in, limit); err != nil {
		return k.skipSpool(p, c, tail, err)
	}
	if c.frame >= tail && p.ended() && c.flushed == 0 && p.sp.slot.tail.Load() == tail {
		if !broken { // what comes last may be what is missing
			w.noteAt(b, p.sp.slot.endTime.Load())
		}
		w.flush(b, p.sp.slot.endTime.Load())
	}
	if !broken && len(b.out) > 0 {
		failpoint.Hit("keeper.log-write")
		if problem = w.write(b); problem != nil {
			broken = true
		}
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
	if !broken && w.cfg.MaxSize > 0 && c.offset >= w.cfg.MaxSize {
		if err := w.rotate(c, commit); err != nil {
			w.full = time.Now()
			return err
		}
	}
	return problem
}

// ready opens the log, ends a rotation that a kill interrupted, and notices when somebody
// truncated the file.
func (w *logWriter) ready(c *logCursor, commit func()) error {
	if c.rotate > 0 {
		if err := w.rotate(c, commit); err != nil {
			return err
		}
	}
	if w.fd < 0 {
		size, err := w.open()
		if err != nil {
			return err
		}
		if size < c.offset {
			c.offset = size
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(w.fd, &st); err != nil {
		return err
	}
	if st.Size < c.offset {
		c.offset = st.Size
	}
	return nil
}

func (p *proc) ended() bool { return p.sp.slot.ended.Load() != 0 }

// readSpool fills b.in with whole frames from the cursor on.
func (k *Keeper) readSpool(p *proc, b *logBuf, tail uint64) ([]byte, error) {
	n := min(tail-b.cur.frame, uint64(len(b.in)))
	if n == 0 {
		return nil, nil
	}
	in := b.in[:n]
	for off := 0; off < len(in); {
		m, err := unix.Pread(p.sp.fd, in[off:], int64(b.cur.frame)+int64(off))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m == 0 {
			return nil, keeperproto.ErrMalformed
		}
		off += m
	}
	return in, nil
}

// skipSpool goes on at the spool's end; what is left out is noted in the log.
func (k *Keeper) skipSpool(p *proc, c *logCursor, tail uint64, err error) error {
	c.lostB += p.sp.payload(c.frame, tail) - c.inside
	for i := range c.carry {
		c.lostB += uint64(len(c.carry[i]))
		c.carry[i] = c.carry[i][:0]
	}
	c.frame, c.inside = tail, 0
	p.log.commit(p.sp.slot, c)
	return err
}
