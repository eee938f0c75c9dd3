package keeper

import (
	"time"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

const (
	// drainGrace is how long an ended process's pipe may be held open by others.
	drainGrace = 100 * time.Millisecond
	// tellGrace bounds how long a slow log disk delays the news of an exit.
	tellGrace = 2 * time.Second
)

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
