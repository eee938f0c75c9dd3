package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// remover takes processes away that nobody wants any more: their folders, their descriptors, their entries.
type remover struct {
	table  *table
	loop   *eventLoop
	anchor *anchorLink
	kept   *retention
	pump   *pump
}

// remove closes everything of a process. Only the loop calls it.
func (r *remover) remove(p *proc) {
	r.table.remove(p)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready, p.gone = 0, true
	p.watches.dismiss()
	if p.sp.slot != nil {
		r.kept.gave(&p.sp)
	}
	if !p.logBusy {
		p.closeAll()
	}
}

// forget drops an ended process: its folder goes, its name is free. Any goroutine but the loop's may call it.
func (r *remover) forget(p *proc) {
	done := make(chan struct{})
	r.loop.post(func() {
		defer close(done)
		if !r.table.unname(p) {
			return
		}
		r.anchor.drop(p)
		failpoint.Hit("keeper.forget-dropped")
		if p.meta.terminal { // only the keeper itself writes to this FIFO
			closeFD(&p.in[0])
		}
		if p.in[0] >= 0 || p.in[1] >= 0 {
			r.toSink(p)
			return
		}
		_ = os.RemoveAll(p.dir)
		failpoint.Hit("keeper.forget-removed")
		r.remove(p)
	})
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
}

// toSink keeps reading, for nobody, what others still write to a forgotten
// process's pipes: they must neither be stopped nor see an error. Only the loop calls it.
func (r *remover) toSink(p *proc) {
	p.sink = true
	away := p.dir + fmt.Sprintf("+%x", p.gen)
	if err := os.Rename(p.dir, away); err == nil {
		p.dir = away
	}
	failpoint.Hit("keeper.sink-renamed")
	_ = os.WriteFile(filepath.Join(p.dir, forgotName), nil, 0o600)
	for _, name := range []string{spoolName, slotName, metaName, keeperproto.ExitName} {
		_ = os.Remove(filepath.Join(p.dir, name))
	}
	failpoint.Hit("keeper.sink-emptied")
	p.ready = 3
	r.pump.enqueue(p)
}

// sinkDone ends a sink when its last writer is gone. Only the loop calls it.
func (r *remover) sinkDone(p *proc) {
	if r.table.has(p) {
		return // cut off, but not forgotten yet
	}
	_ = os.RemoveAll(p.dir)
	failpoint.Hit("keeper.sink-removed")
	r.remove(p)
}
