package keeper

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

const (
	// drainGrace is how long an ended process's pipe may be held open by others.
	drainGrace = 100 * time.Millisecond
	// tellGrace bounds how long a slow log disk delays the news of an exit.
	tellGrace = 2 * time.Second
)

// exits takes a process from its exit record to the news of its end: what it wrote last is drained and logged before.
type exits struct {
	loop    *eventLoop
	anchor  *anchorLink
	pump    *pump
	logs    *logWorkers
	news    exitNews
	closing sync.WaitGroup // mount namespaces on their way out
}

// exitNews hears of a process that has ended and whose output is complete. p.mu is held.
type exitNews interface{ broadcastExit(p *proc) }

// ended goes on after the exit record: drain, tell, clean up behind. Only the loop calls it.
func (e *exits) ended(p *proc, x keeperproto.Exited) {
	p.mu.Lock()
	if p.exit != nil {
		p.mu.Unlock()
		return
	}
	p.exit = &x
	closeFD(&p.stdin)
	closeFD(&p.pidfd)
	p.mu.Unlock()
	e.anchor.retire(p)
	failpoint.Hit("keeper.exit-retired")
	p.ready |= 3
	for i := 0; i < 64 && p.ready != 0 && !p.waitsForLog(); i++ {
		e.pump.turn(p)
	}
	if p.in[0] < 0 && p.in[1] < 0 {
		e.drainedNow(p)
		return
	}
	e.pump.enqueue(p)
	time.AfterFunc(drainGrace, func() { e.loop.post(func() { e.cutOff(p) }) })
}

// cutOff ends the output of a process whose pipe others hold open. Only the loop calls it.
func (e *exits) cutOff(p *proc) {
	if p.sink || p.in[0] < 0 && p.in[1] < 0 {
		return
	}
	if p.ready != 0 || p.waitsForLog() { // still at it
		time.AfterFunc(drainGrace, func() { e.loop.post(func() { e.cutOff(p) }) })
		return
	}
	closeFD(&p.tty)
	e.drainedNow(p)
	p.sink = true
	p.ready = 3
	e.pump.enqueue(p)
}

// drainedNow ends a process's output once the process itself has ended.
func (e *exits) drainedNow(p *proc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exit == nil || p.drained || p.sp.slot == nil {
		return
	}
	p.drained = true
	p.sp.slot.endTime.Store(time.Now().UnixNano())
	p.sp.slot.ended.Store(1)
	failpoint.Hit("keeper.exit-drained")
	p.watches.announce(p.sp.slot.tail.Load())
	e.logs.kick(p)
	e.tellIfDone(p)
	if !p.told {
		time.AfterFunc(tellGrace, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			e.tell(p)
		})
	}
}

// resumed goes on with a process whose output ended in a former keeper's time already.
func (e *exits) resumed(p *proc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.logs.kick(p)
	e.tellIfDone(p)
}

// tellIfDone tells of the exit when the log has everything. p.mu is held.
func (e *exits) tellIfDone(p *proc) {
	if p.drained && p.exit != nil && (p.flushed || p.meta.log.Driver == keeperproto.LogNone) {
		e.tell(p)
	}
}

// tell announces the exit, and only then lets the mount namespace go: its last
// unmount may take long. p.mu is held.
func (e *exits) tell(p *proc) {
	if p.told || p.exit == nil {
		return
	}
	p.told = true
	failpoint.Hit("keeper.exit-tell")
	e.news.broadcastExit(p)
	if p.mountNS >= 0 {
		fd := p.mountNS
		p.mountNS = -1
		e.closing.Add(1)
		go func() {
			defer e.closing.Done()
			_ = unix.Close(fd)
			failpoint.Hit("keeper.mounts-gone")
		}()
	}
}
