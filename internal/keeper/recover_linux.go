package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
)

// recovery takes processes over from a former keeper, before the loop runs.
type recovery struct {
	dir     string // of the processes' folders
	log     *boundedLog
	table   *table
	loop    *eventLoop
	anchor  *anchorLink
	kept    *retention
	logs    *logWorkers
	pump    *pump
	reaper  *reaper
	spawner Spawner
}

// recover takes over what a former keeper left: after a crash, and after an exec.
func (r *recovery) recover(held map[string]heldProc) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.log.printf("recovering: %v", err)
		return
	}
	n := 0
	for _, e := range entries {
		if strings.Contains(e.Name(), "+") {
			r.sink(e.Name())
			continue
		}
		h := held[e.Name()]
		delete(held, e.Name())
		if err := r.takeOver(e.Name(), h); err != nil {
			r.log.printf("recovering %s: %v; it is dropped", e.Name(), err)
			h.close()
			_ = os.RemoveAll(filepath.Join(r.dir, e.Name()))
			r.anchor.drop(&proc{name: e.Name(), pid: h.pid})
			continue
		}
		n++
	}
	for name, h := range held {
		h.close()
		r.anchor.drop(&proc{name: name, pid: h.pid})
	}
	if n > 0 {
		r.kept.keepAll()
		r.log.printf("took %d processes over", n)
	}
}

var errHalf = errors.New("its launch did not finish")

// takeOver takes one process over.
func (r *recovery) takeOver(name string, h heldProc) error {
	dir := filepath.Join(r.dir, name)
	b, err := os.ReadFile(filepath.Join(dir, metaName))
	if err != nil {
		return errHalf
	}
	m, err := decodeMeta(b)
	if err != nil {
		return err
	}
	if want, err := keeperproto.ProcName(m.key); err != nil || want != name {
		return fmt.Errorf("its record names %s", m.key)
	}
	p := blankProc(r.dir, name, m.key, m.gen)
	p.meta, p.pid = m, m.pid
	p.log.file.cfg, p.log.file.complains = m.log, r.log.printf
	if err := p.openFiles(0); err != nil {
		p.closeAll()
		return err
	}
	if err := p.sp.slot.check(); err != nil {
		p.closeAll()
		return err
	}
	p.pidfd = h.pidfd(p)
	if p.sp.slot.started.Load() == 0 && (p.pidfd >= 0 && r.spawner.Ran(p.pid) || p.hasOutput(h)) {
		// The former keeper died right after the user's program was executed: it is no less running for that.
		p.sp.slot.started.Store(time.Now().UnixNano())
	}
	if p.sp.slot.started.Load() == 0 {
		// Nobody was told that it runs, so it does not.
		failpoint.Hit("keeper.recover-half")
		if p.pidfd >= 0 {
			_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
			_ = unix.Waitid(unix.P_PIDFD, p.pidfd, nil, unix.WEXITED|unix.WALL, nil)
		}
		p.closeAll()
		return errHalf
	}
	if err := h.streams(p); err != nil {
		p.closeAll()
		return err
	}
	h.close()
	if err := p.sp.recover(); err != nil {
		r.log.printf("spool of %s: %v", m.key, err)
	}
	var cur logCursor
	p.sp.slot.load(&cur)
	p.logPos = cur.frame
	p.drained = p.sp.ended()
	p.flushed = p.drained && cur.flushed != 0
	r.kept.took(&p.sp)
	failpoint.Hit("keeper.recover-proc")
	r.table.add(p)
	return r.resume(p)
}

// resume puts a recovered process back into the loop, which does not run yet.
func (r *recovery) resume(p *proc) error {
	if p.pidfd >= 0 || p.tty >= 0 || p.in[0] >= 0 || p.in[1] >= 0 {
		if err := r.loop.attach(p); err != nil {
			return err
		}
	}
	r.anchor.hold(p)
	rec, err := readExit(p.dir)
	if err != nil {
		r.log.printf("exit record of %s: %v", p.key, err)
	}
	r.loop.post(func() {
		p.ready |= 3
		r.pump.enqueue(p)
		switch {
		case rec != nil && rec.Gen == p.gen:
			r.reaper.recorded(p, *rec)
		case p.pidfd < 0:
			// It is gone, and nobody saw how.
			r.reaper.reapForeign(p)
		default:
			p.mu.Lock()
			r.logs.kick(p)
			p.mu.Unlock()
		}
	})
	return nil
}

// sink goes on throwing away what is written to a forgotten process's pipes.
func (r *recovery) sink(name string) {
	p := blankProc(r.dir, name, spec.ProcessKey{Container: name}, 0)
	p.sink = true
	for i := range p.in {
		fd, err := p.openFIFO(i, unix.O_RDONLY)
		if err == nil {
			p.in[i] = fd
		}
	}
	r.table.addSink(p)
	if err := r.loop.attach(p); err != nil {
		r.log.printf("recovering %s: %v", name, err)
	}
	r.loop.post(func() { p.ready = 3; r.pump.enqueue(p) })
}
