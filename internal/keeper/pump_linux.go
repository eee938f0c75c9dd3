package keeper

import (
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
)

// pump moves output from the processes' pipes and terminals into their spools. All of it belongs to the loop's goroutine,
// but for resume.
type pump struct {
	loop  *eventLoop
	log   *boundedLog
	kept  *retention
	logs  *logWorkers
	ends  outputEnds
	sinks sinkEnds

	queue []*proc // those that have something
	spare []*proc
	trash []byte
}

// outputEnds hears that a process's pipes have no writer any more.
type outputEnds interface{ drainedNow(p *proc) }

// sinkEnds hears it of a process whose output is thrown away.
type sinkEnds interface{ sinkDone(p *proc) }

// enqueue puts p among those that are pumped next. Only the loop calls it.
func (q *pump) enqueue(p *proc) {
	if !p.queued && p.ready != 0 {
		p.queued = true
		q.queue = append(q.queue, p)
	}
}

// resume has a process pumped again that waited for its log. Any goroutine may call it.
func (q *pump) resume(p *proc) { q.loop.post(func() { q.enqueue(p) }) }

// busy tells whether anything waits.
func (q *pump) busy() bool { return len(q.queue) > 0 }

// move gives every waiting process one turn, and returns the number of bytes moved.
func (q *pump) move() int {
	batch := q.queue
	q.queue, q.spare = q.spare[:0], batch
	total := 0
	for i, p := range batch {
		batch[i] = nil
		p.queued = false
		total += q.turn(p)
		if !p.waitsForLog() {
			q.enqueue(p)
		}
	}
	return total
}

// turn moves what p's pipes hold, one splice per stream.
func (q *pump) turn(p *proc) (total int) {
	if p.sink {
		q.discard(p)
		return 0
	}
	if p.sp.slot == nil {
		p.ready = 0
		return 0
	}
	for i := range p.in {
		bit := uint8(1) << i
		if p.ready&bit == 0 {
			continue
		}
		n, err := q.take(p, i)
		switch {
		case n > 0:
			total += n
			if n < spliceMax && p.tty < 0 && emptied(p.in[i]) {
				p.ready &^= bit // the next byte raises a new event
			}
		case err == unix.EAGAIN:
			p.ready &^= bit
		case err == unix.EINTR:
		case err == unix.ENOSPC || err == unix.ENOMEM:
			q.spoolFull(p, i)
		default:
			if err != nil && err != unix.EIO {
				q.log.printf("output of %s: %v", p.key, err)
			}
			p.ready &^= bit
			q.endOfStream(p, i)
		}
	}
	if total > 0 {
		q.grown(p, total)
	}
	return total
}

// emptied tells whether a pipe holds nothing. A splice ends early too when the spool finds no more room, and
// a pipe that stays full raises no event.
func emptied(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	return err == nil && n == 0
}

// take splices one stream into the spool. A terminal's bytes pass through the
// FIFO, because the kernel splices only to or from pipes; what a kill leaves there is
// taken first.
func (q *pump) take(p *proc, i int) (int, error) {
	stream := spec.Stdout + spec.Stream(i)
	if p.tty < 0 || i != 0 {
		if p.in[i] < 0 {
			return 0, unix.EAGAIN
		}
		return p.sp.appendFrom(p.in[i], stream)
	}
	n, err := p.sp.appendFrom(p.in[0], stream)
	if n > 0 || err != unix.EAGAIN {
		return n, err
	}
	if _, err := unix.Splice(p.tty, nil, p.in[0], nil, 32<<10, unix.SPLICE_F_NONBLOCK); err != nil {
		return 0, err
	}
	failpoint.Hit("keeper.terminal-spliced")
	return p.sp.appendFrom(p.in[0], stream)
}

// grown tells the log writer and the watches of n more bytes.
func (q *pump) grown(p *proc, n int) {
	q.kept.grew(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watches.announce(p.sp.slot.tail.Load())
	q.logs.kick(p)
	if p.meta.log.Driver != keeperproto.LogNone && p.sp.slot.tail.Load()-p.logPos > q.kept.pauseAt(p) {
		p.paused = true
	}
	q.kept.punch(p)
}

// spoolFull makes room when the exec root's file system is full: laggards lose
// first; then the process waits for its log; when there is nothing to wait for, output is dropped.
func (q *pump) spoolFull(p *proc, i int) {
	p.mu.Lock()
	if q.kept.makeRoom(p) {
		p.mu.Unlock()
		return
	}
	waits := p.logBusy
	if waits {
		p.paused = true
	}
	p.mu.Unlock()
	if waits {
		return
	}
	buf := q.scratch()
	fd := p.in[i]
	if p.tty >= 0 {
		fd = p.tty
	}
	n, err := unix.Read(fd, buf)
	if n > 0 {
		p.sp.slot.dropped.Add(uint64(n))
		return
	}
	p.ready &^= 1 << i
	if err != unix.EAGAIN {
		q.endOfStream(p, i)
	}
}

// scratch is the loop's buffer for bytes that nobody will see.
func (q *pump) scratch() []byte {
	if q.trash == nil {
		q.trash = make([]byte, 64<<10)
	}
	return q.trash
}

// discard empties the pipes of a process that was forgotten while others still write to it.
func (q *pump) discard(p *proc) {
	buf := q.scratch()
	for i := range p.in {
		bit := uint8(1) << i
		if p.ready&bit == 0 {
			continue
		}
		if p.in[i] < 0 {
			p.ready &^= bit
			continue
		}
		n, err := unix.Read(p.in[i], buf)
		switch {
		case n > 0 || err == unix.EINTR:
		case err == unix.EAGAIN:
			p.ready &^= bit
		default:
			p.ready &^= bit
			closeFD(&p.in[i])
		}
	}
	if p.in[0] < 0 && p.in[1] < 0 {
		q.sinks.sinkDone(p)
	}
}

// endOfStream notes that a stream has no writer any more.
func (q *pump) endOfStream(p *proc, i int) {
	closeFD(&p.in[i])
	if i == 0 {
		closeFD(&p.tty)
	}
	if p.in[0] < 0 && p.in[1] < 0 {
		q.ends.drainedNow(p)
	}
}
