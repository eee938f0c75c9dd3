package keeper

import (
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
)

// enqueue puts p among those that are pumped next. Only the loop calls it.
func (k *Keeper) enqueue(p *proc) {
	if !p.queued && p.ready != 0 {
		p.queued = true
		k.queue = append(k.queue, p)
	}
}

// move gives every waiting process one turn, and the number of bytes moved.
func (k *Keeper) move() int {
	batch := k.queue
	k.queue, k.spare = k.spare[:0], batch
	total := 0
	for i, p := range batch {
		batch[i] = nil
		p.queued = false
		total += k.pump(p)
		p.mu.Lock()
		paused := p.paused
		p.mu.Unlock()
		if !paused {
			k.enqueue(p)
		}
	}
	return total
}

// pump moves what p's pipes hold, one splice per stream.
func (k *Keeper) pump(p *proc) (total int) {
	if p.sink {
		k.discard(p)
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
		n, err := k.take(p, i)
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
			k.spoolFull(p, i)
		default:
			if err != nil && err != unix.EIO {
				k.log.printf("output of %s: %v", p.key, err)
			}
			p.ready &^= bit
			k.endOfStream(p, i)
		}
	}
	if total > 0 {
		k.grown(p, total)
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
func (k *Keeper) take(p *proc, i int) (int, error) {
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
func (k *Keeper) grown(p *proc, n int) {
	k.unread.Add(int64(n))
	p.mu.Lock()
	defer p.mu.Unlock()
	tail := p.sp.slot.tail.Load()
	for w := range p.watches {
		w.announce(tail)
	}
	k.kick(p)
	limit := uint64(pauseAt)
	if p.meta.log.NonBlocking {
		limit = uint64(k.cfg.SpoolLimit) // the log writer skips; only a disk that hangs gets here
	}
	if p.meta.log.Driver != keeperproto.LogNone && tail-p.logPos > limit {
		p.paused = true
	}
	k.punch(p)
}

// spoolFull makes room when the exec root's file system is full: laggards lose
// first; then the process waits for its log; when there is nothing to wait for, output is dropped.
func (k *Keeper) spoolFull(p *proc, i int) {
	p.mu.Lock()
	before := p.sp.slot.floor.Load()
	p.dropLaggards(0)
	k.punch(p)
	if p.sp.slot.floor.Load() > before {
		p.mu.Unlock()
		return // there is room again
	}
	waits := p.logBusy
	if waits {
		p.paused = true
	}
	p.mu.Unlock()
	if waits {
		return
	}
	buf := k.scratch()
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
		k.endOfStream(p, i)
	}
}

// scratch is the loop's buffer for bytes that nobody will see.
func (k *Keeper) scratch() []byte {
	if k.trash == nil {
		k.trash = make([]byte, 64<<10)
	}
	return k.trash
}

// discard empties the pipes of a process that was forgotten while others still write to it.
func (k *Keeper) discard(p *proc) {
	buf := k.scratch()
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
		k.sinkDone(p)
	}
}

// endOfStream notes that a stream has no writer any more.
func (k *Keeper) endOfStream(p *proc, i int) {
	closeFD(&p.in[i])
	if i == 0 {
		closeFD(&p.tty)
	}
	if p.in[0] < 0 && p.in[1] < 0 {
		k.drainedNow(p)
	}
}
