package keeper

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
)

// What an epoll event is about.
const (
	evWake = iota
	evStdout
	evStderr
	evTerminal
	evPidfd
)

const (
	// calm is how long the loop waits when small pieces of output come one right after the other, so
	// that it takes many at once; nobody sees half a millisecond.
	calm     = 500 * time.Microsecond
	smallRun = 16 << 10
	// drainGrace is how long an ended process's pipe may be held open by others.
	drainGrace = 100 * time.Millisecond
	// tellGrace bounds how long a slow log disk delays the news of an exit.
	tellGrace = 2 * time.Second
)

// post runs f in the loop.
func (k *Keeper) post(f func()) {
	k.postMu.Lock()
	k.posted = append(k.posted, f)
	first := len(k.posted) == 1
	k.postMu.Unlock()
	if first {
		one := [8]byte{1}
		_, _ = unix.Write(k.wake, one[:])
	}
}

func (k *Keeper) epollAdd(fd int, id int32, kind int32, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: id, Pad: kind}
	return unix.EpollCtl(k.ep, unix.EPOLL_CTL_ADD, fd, &ev)
}

// openLoop makes the descriptor that the loop waits on. Go's own poller waits on it in turn: a thread that blocked
// in it would keep a processor of Go's until the runtime's monitor noticed.
func (k *Keeper) openLoop() (err error) {
	if k.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err := unix.SetNonblock(k.ep, true); err != nil {
		return err
	}
	k.epFile = os.NewFile(uintptr(k.ep), "epoll")
	k.waiter, err = k.epFile.SyscallConn()
	return err
}

// wait gives the next events; unless block is set it gives what there is.
func (k *Keeper) wait(events []unix.EpollEvent, block bool) (n int, err error) {
	look := func(fd uintptr) bool {
		n, err = unix.EpollWait(int(fd), events, 0)
		return !block || n != 0 || err != nil && err != unix.EINTR
	}
	if waitErr := k.waiter.Read(look); waitErr != nil {
		return 0, waitErr
	}
	return n, err
}

// loop waits for all descriptors. It ends when k.stop is set and it is woken.
func (k *Keeper) loop() {
	events := make([]unix.EpollEvent, 256)
	var last time.Time
	moved := smallRun
	for !k.stop.Load() {
		n, err := k.wait(events, len(k.queue) == 0)
		if err != nil && err != unix.EINTR {
			k.logf("epoll: %v", err)
			return
		}
		now := time.Now()
		if n > 0 && moved > 0 && moved < smallRun && now.Sub(last) < calm {
			time.Sleep(calm)
			now = time.Now()
		}
		last = now
		for _, ev := range events[:max(n, 0)] {
			k.event(ev)
		}
		k.runPosted()
		moved = k.pumpAll()
	}
}

func (k *Keeper) runPosted() {
	k.postMu.Lock()
	fs := k.posted
	k.posted = nil
	k.postMu.Unlock()
	for _, f := range fs {
		f()
	}
}

func (k *Keeper) event(ev unix.EpollEvent) {
	if ev.Pad == evWake {
		var b [8]byte
		_, _ = unix.Read(k.wake, b[:])
		return
	}
	k.mu.Lock()
	p := k.byID[ev.Fd]
	k.mu.Unlock()
	if p == nil {
		return
	}
	switch ev.Pad {
	case evStdout, evTerminal:
		p.ready |= 1
		k.enqueue(p)
	case evStderr:
		p.ready |= 2
		k.enqueue(p)
	case evPidfd:
		k.reap(p)
	}
}

// enqueue puts p among those that are pumped next. Only the loop calls it.
func (k *Keeper) enqueue(p *proc) {
	if !p.queued && p.ready != 0 {
		p.queued = true
		k.queue = append(k.queue, p)
	}
}

// pumpAll gives every waiting process one turn, and the number of bytes moved.
func (k *Keeper) pumpAll() int {
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
				k.logf("output of %s: %v", p.key, err)
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

// drainedNow ends a process's output once the process itself has ended.
func (k *Keeper) drainedNow(p *proc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exit == nil || p.drained || p.sp.slot == nil {
		return
	}
	p.drained = true
	p.sp.slot.endTime.Store(time.Now().UnixNano())
	p.sp.slot.ended.Store(1)
	failpoint.Hit("keeper.exit-drained")
	tail := p.sp.slot.tail.Load()
	for w := range p.watches {
		w.announce(tail)
	}
	k.kick(p)
	k.tellIfDone(p)
	if !p.told {
		time.AfterFunc(tellGrace, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			k.tell(p)
		})
	}
}
