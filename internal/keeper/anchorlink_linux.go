package keeper

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/anchor"
	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// anchorLink is the keeper's side of the socket to the anchor.
type anchorLink struct {
	log   *boundedLog
	table *table
	loop  *eventLoop
	path  string   // of the anchor's binary; empty to start none
	args  []string // its arguments

	stopped atomic.Bool

	mu   sync.Mutex // after any proc.mu
	fd   int        // -1 while there is no anchor
	fed  bool       // it was given everything
	echo chan struct{}
}

// anchorPatience is how long an anchor may take to answer before an exec that depends on it.
const anchorPatience = 2 * time.Second

// orphanReaper looks after a process that the anchor has seen to end. The loop calls it.
type orphanReaper interface{ reap(p *proc) }

// open takes the inherited socket over and receives what a former keeper left with the anchor; that is what came until then, also with an error.
func (a *anchorLink) open(fd int) (map[string]heldProc, error) {
	held := map[string]heldProc{}
	if fd < 0 {
		return held, nil
	}
	unix.CloseOnExec(fd)
	a.fd, a.fed = fd, true
	// The anchor gives everything back on this word: a keeper that was exec'ed asks like a new one.
	if err := keeperproto.SendPacket(fd, keeperproto.Message{Type: keeperproto.TypeHello}); err != nil {
		return held, err
	}
	for {
		m, err := keeperproto.ReceivePacket(fd)
		if err != nil {
			return held, err
		}
		switch m.Type {
		case keeperproto.TypeHeldEnd:
			return held, nil
		case keeperproto.TypeHeld:
			h, err := keeperproto.DecodeHold(m.Payload)
			if err != nil || len(h.Kinds) != len(m.FDs) {
				m.CloseFDs()
				continue
			}
			p := heldProc{pid: int(h.PID), fds: map[keeperproto.FDKind]int{}}
			for i, kind := range h.Kinds {
				p.fds[kind] = m.FDs[i]
			}
			held[h.Name] = p
		default:
			m.CloseFDs()
		}
	}
}

// run listens to the anchor, and looks for a new one when it is gone.
func (a *anchorLink) run(r orphanReaper) {
	for {
		a.mu.Lock()
		fd := a.fd
		a.mu.Unlock()
		if fd >= 0 {
			a.listen(fd, r)
		}
		if a.stopped.Load() || a.path == "" {
			return
		}
		a.log.printf("the anchor is gone; starting another")
		if err := a.restart(); err != nil {
			a.log.printf("starting an anchor: %v", err)
			time.Sleep(time.Second)
		}
	}
}

func (a *anchorLink) listen(fd int, r orphanReaper) {
	for {
		m, err := keeperproto.ReceivePacket(fd)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				a.log.printf("anchor: %v", err)
			}
			a.mu.Lock()
			_ = unix.Close(fd)
			a.fd, a.fed = -1, false
			a.mu.Unlock()
			return
		}
		m.CloseFDs()
		if m.Type == keeperproto.TypeEcho {
			select {
			case a.echo <- struct{}{}:
			default:
			}
		}
		if m.Type != keeperproto.TypeOrphan {
			continue
		}
		o, err := keeperproto.DecodeOrphan(m.Payload)
		if err != nil {
			continue
		}
		if p := a.table.named(o.Name); p != nil {
			a.loop.post(func() { r.reap(p) })
		}
	}
}

// restart starts a new anchor below this keeper and gives it everything to hold. It cannot be
// the keeper's parent any more; when the keeper dies it starts the next one and is its parent.
func (a *anchorLink) restart() error {
	// Until there is a proper anchor above, orphans of containers come here.
	failpoint.Hit("keeper.anchor-lost")
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	fd, err := anchor.StartBelow(a.path, a.args)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.fd = fd
	a.mu.Unlock()
	failpoint.Hit("keeper.anchor-restarted")
	for _, p := range a.table.all() {
		done := make(chan struct{})
		a.loop.post(func() { a.hold(p); close(done) })
		<-done
	}
	a.mu.Lock()
	a.fed = a.fd == fd
	a.mu.Unlock()
	failpoint.Hit("keeper.anchor-fed")
	return nil
}

func (a *anchorLink) send(m keeperproto.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fd < 0 {
		return
	}
	if err := keeperproto.SendPacket(a.fd, m); err != nil {
		a.log.printf("anchor: %v", err)
	}
}

// hold gives the anchor copies of a process's descriptors.
func (a *anchorLink) hold(p *proc) {
	p.mu.Lock()
	h := keeperproto.Hold{Name: p.name, Gen: p.gen, PID: int32(p.pid)}
	var fds []int
	add := func(kind keeperproto.FDKind, fd int) {
		if fd >= 0 {
			h.Kinds, fds = append(h.Kinds, kind), append(fds, fd)
		}
	}
	add(keeperproto.FDPid, p.pidfd)
	add(keeperproto.FDStdout, p.in[0])
	add(keeperproto.FDStderr, p.in[1])
	add(keeperproto.FDStdin, p.stdin)
	add(keeperproto.FDTerminal, p.tty)
	p.mu.Unlock()
	a.send(keeperproto.Message{Type: keeperproto.TypeHold, Payload: h.Encode(), FDs: fds})
}

func (a *anchorLink) name(t keeperproto.Type, p *proc, kinds ...keeperproto.FDKind) {
	h := keeperproto.Hold{Name: p.name, Gen: p.gen, PID: int32(p.pid), Kinds: kinds}
	a.send(keeperproto.Message{Type: t, Payload: h.Encode()})
}

// retire says which descriptors of a process need no holding any more; with none named it has ended, and they are
// its input and its pidfd.
func (a *anchorLink) retire(p *proc, kinds ...keeperproto.FDKind) {
	a.name(keeperproto.TypeRetire, p, kinds...)
}

// drop says that nothing of a process is wanted any more.
func (a *anchorLink) drop(p *proc) { a.name(keeperproto.TypeDrop, p) }

// stop says that the anchor shall end with this keeper.
func (a *anchorLink) stop() {
	a.stopped.Store(true)
	a.send(keeperproto.Message{Type: keeperproto.TypeAnchorStop})
}

// prepareExec lets the socket live through an exec, and gives its number. It makes sure that an anchor is there which has
// everything: what is lost in an exec nobody else has.
func (a *anchorLink) prepareExec() (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.fed {
		return -1, os.ErrNotExist
	}
	select {
	case <-a.echo: // late, from before
	default:
	}
	if err := keeperproto.SendPacket(a.fd, keeperproto.Message{Type: keeperproto.TypeEcho}); err != nil {
		return -1, err
	}
	a.mu.Unlock()
	answered := false
	select {
	case <-a.echo:
		answered = true
	case <-time.After(anchorPatience):
	}
	a.mu.Lock()
	if !answered || !a.fed {
		return -1, errors.New("it does not answer")
	}
	_, err := unix.FcntlInt(uintptr(a.fd), unix.F_SETFD, 0)
	return a.fd, err
}
