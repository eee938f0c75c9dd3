package keeper

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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
)

// eventLoop waits for all descriptors of all processes. What must not happen while output is moved or an exit is
// handled runs in its goroutine: it is posted. Any goroutine may post, attach and rearm.
type eventLoop struct {
	ep, wake int
	file     *os.File        // ep
	waiter   syscall.RawConn // of file
	stop     atomic.Bool

	mu     sync.Mutex // last of all
	posted []func()
}

// eventHandler is what the loop does between two waits.
type eventHandler interface {
	// event takes one event of the process with a number.
	event(id, kind int32)
	// busy tells whether there is something to move, so that the loop only looks for events.
	busy() bool
	// move moves output that waits, and gives the number of bytes.
	move() int
}

// openEventLoop makes the descriptor that the loop waits on. Go's own poller waits on it in turn: a thread that blocked
// in it would keep a processor of Go's until the runtime's monitor noticed.
func openEventLoop() (l *eventLoop, err error) {
	l = &eventLoop{}
	if l.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(l.ep, true); err != nil {
		return nil, err
	}
	l.file = os.NewFile(uintptr(l.ep), "epoll")
	if l.waiter, err = l.file.SyscallConn(); err != nil {
		return nil, err
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, err
	}
	return l, l.add(l.wake, 0, evWake, unix.EPOLLIN)
}

func (l *eventLoop) add(fd int, id int32, kind int32, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: id, Pad: kind}
	return unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &ev)
}

// attach has the loop wait for a process's descriptors.
func (l *eventLoop) attach(p *proc) error {
	const edge = unix.EPOLLIN | unix.EPOLLET
	if p.tty >= 0 {
		if err := l.add(p.tty, p.id, evTerminal, edge); err != nil {
			return err
		}
	} else {
		for i, kind := range []int32{evStdout, evStderr} {
			if p.in[i] < 0 {
				continue
			}
			if err := l.add(p.in[i], p.id, kind, edge); err != nil {
				return err
			}
		}
	}
	if p.pidfd >= 0 {
		return l.add(p.pidfd, p.id, evPidfd, unix.EPOLLIN|unix.EPOLLONESHOT)
	}
	return nil
}

// rearm has a process's end reported once more, a little later.
func (l *eventLoop) rearm(p *proc) {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: p.id, Pad: evPidfd}
	time.AfterFunc(time.Millisecond, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.pidfd >= 0 {
			_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_MOD, p.pidfd, &ev)
		}
	})
}

// post runs f in the loop.
func (l *eventLoop) post(f func()) {
	l.mu.Lock()
	l.posted = append(l.posted, f)
	first := len(l.posted) == 1
	l.mu.Unlock()
	if first {
		one := [8]byte{1}
		_, _ = unix.Write(l.wake, one[:])
	}
}

// end ends run.
func (l *eventLoop) end() {
	l.stop.Store(true)
	l.post(func() {})
}

// wait gives the next events; unless block is set it gives what there is.
func (l *eventLoop) wait(events []unix.EpollEvent, block bool) (n int, err error) {
	look := func(fd uintptr) bool {
		n, err = unix.EpollWait(int(fd), events, 0)
		return !block || n != 0 || err != nil && err != unix.EINTR
	}
	if waitErr := l.waiter.Read(look); waitErr != nil {
		return 0, waitErr
	}
	return n, err
}

// run is the loop. It returns when end was called.
func (l *eventLoop) run(h eventHandler) error {
	events := make([]unix.EpollEvent, 256)
	var last time.Time
	moved := smallRun
	for !l.stop.Load() {
		n, err := l.wait(events, !h.busy())
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll: %w", err)
		}
		now := time.Now()
		if n > 0 && moved > 0 && moved < smallRun && now.Sub(last) < calm {
			time.Sleep(calm)
			now = time.Now()
		}
		last = now
		for _, ev := range events[:max(n, 0)] {
			if ev.Pad == evWake {
				var b [8]byte
				_, _ = unix.Read(l.wake, b[:])
				continue
			}
			h.event(ev.Fd, ev.Pad)
		}
		l.runPosted()
		moved = h.move()
	}
	return nil
}

func (l *eventLoop) runPosted() {
	l.mu.Lock()
	fs := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range fs {
		f()
	}
}
