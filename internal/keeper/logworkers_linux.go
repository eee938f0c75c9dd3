package keeper

import (
	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

const logWorkerCount = 4

// logWorkers write the processes' logs, a few at a time. A process's turn begins with kick.
type logWorkers struct {
	log     *boundedLog
	kept    *retention
	bufs    chan *logBuf // one per worker
	waiting logWaiter
	news    logNews
}

// logWaiter lets a process go on that waited for its log. p.mu is held.
type logWaiter interface{ resume(p *proc) }

// logNews hears that a process's log has caught up. p.mu is held.
type logNews interface{ tellIfDone(p *proc) }

func newLogWorkers(log *boundedLog, kept *retention) *logWorkers {
	l := &logWorkers{log: log, kept: kept, bufs: make(chan *logBuf, logWorkerCount)}
	for range logWorkerCount {
		l.bufs <- &logBuf{}
	}
	return l
}

// kick lets a worker write p's log, if there is anything to write and none is at
// it. p.mu is held.
func (l *logWorkers) kick(p *proc) {
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
	if tail == 0 && p.sp.slot.dropped.Load() == 0 { // it has ended without a word, which takes no worker
		p.flushed = true
		return
	}
	p.logBusy = true
	go l.run(p)
}

// run is one worker's turn with one process: until its log has caught up.
func (l *logWorkers) run(p *proc) {
	b := <-l.bufs
	defer func() { l.bufs <- b }()
	if b.in == nil {
		b.in, b.out = make([]byte, logInput), make([]byte, 0, logOutput+64<<10)
	}
	p.sp.slot.load(&b.cur)
	w := &p.log
	w.saved = b.cur.frame
	for {
		failpoint.Hit("keeper.log-batch")
		if err := w.batch(&p.sp, b, p.sp.slot.tail.Load()); err != nil {
			l.log.printf("log of %s: %v", p.key, err)
		}
		if l.batchDone(p, b) {
			break
		}
	}
	// A long line or a burst may have grown what is shared; it does not stay so.
	if cap(b.out) > 4*logOutput {
		b.out = make([]byte, 0, logOutput+64<<10)
	}
}

// batchDone notes how far p's log is, and tells whether the worker's turn is over.
func (l *logWorkers) batchDone(p *proc, b *logBuf) (done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logPos = p.log.saved // what is after it may be formatted again
	caughtUp := b.cur.frame >= p.sp.slot.tail.Load()
	p.flushed = p.drained && caughtUp && b.cur.flushed != 0
	if p.paused && p.sp.slot.tail.Load()-p.logPos < resumeAt {
		p.paused = false
		l.waiting.resume(p)
	}
	l.kept.punch(p)
	done = p.gone || caughtUp && (!p.drained || p.flushed)
	if done {
		p.logBusy = false
		if p.gone {
			p.closeAll()
		}
		l.news.tellIfDone(p)
	}
	return done
}
