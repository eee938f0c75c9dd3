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

// recover takes over what a former keeper left: after a crash, and after an exec.
func (k *Keeper) recover(held map[string]heldProc) {
	entries, err := os.ReadDir(k.procsD)
	if err != nil {
		k.log.printf("recovering: %v", err)
		return
	}
	n := 0
	for _, e := range entries {
		if strings.Contains(e.Name(), "+") {
			k.recoverSink(e.Name())
			continue
		}
		h := held[e.Name()]
		delete(held, e.Name())
		if err := k.recoverProc(e.Name(), h); err != nil {
			k.log.printf("recovering %s: %v; it is dropped", e.Name(), err)
			closeHeld(h)
			_ = os.RemoveAll(filepath.Join(k.procsD, e.Name()))
			k.anchor.drop(&proc{name: e.Name(), pid: h.pid})
			continue
		}
		n++
	}
	for name, h := range held {
		closeHeld(h)
		k.anchor.drop(&proc{name: name, pid: h.pid})
	}
	if n > 0 {
		k.kept.keepAll()
		k.log.printf("took %d processes over", n)
	}
}

func closeHeld(h heldProc) {
	for kind, fd := range h.fds {
		if fd >= 0 {
			_ = unix.Close(fd)
			h.fds[kind] = -1
		}
	}
}

// take moves a descriptor out of what the anchor gave.
func (h heldProc) take(kind keeperproto.FDKind) int {
	fd, ok := h.fds[kind]
	if !ok {
		return -1
	}
	h.fds[kind] = -1
	unix.CloseOnExec(fd)
	return fd
}

var errHalf = errors.New("its launch did not finish")

func (k *Keeper) recoverProc(name string, h heldProc) error {
	dir := filepath.Join(k.procsD, name)
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
	p := blankProc(k.procsD, name, m.key, m.gen)
	p.meta, p.pid = m, m.pid
	p.log.cfg, p.log.complains = m.log, k.log.printf
	if err := p.openFiles(0); err != nil {
		p.closeAll()
		return err
	}
	if err := p.sp.slot.check(); err != nil {
		p.closeAll()
		return err
	}
	p.pidfd = k.recoverPidfd(p, h)
	if p.sp.slot.started.Load() == 0 && (p.pidfd >= 0 && k.cfg.Spawner.Ran(p.pid) || p.hasOutput(h)) {
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
	if err := k.recoverStreams(p, h); err != nil {
		p.closeAll()
		return err
	}
	closeHeld(h)
	if err := p.sp.recover(); err != nil {
		k.log.printf("spool of %s: %v", m.key, err)
	}
	var cur logCursor
	p.sp.slot.load(&cur)
	p.logPos = cur.frame
	p.drained = p.sp.ended()
	p.flushed = p.drained && cur.flushed != 0
	k.kept.took(&p.sp)
	failpoint.Hit("keeper.recover-proc")
	k.table.add(p)
	return k.resume(p)
}

// recoverPidfd gives the process's pidfd: the anchor's, or a new one if the number still means
// the same process.
func (k *Keeper) recoverPidfd(p *proc, h heldProc) int {
	if fd := h.take(keeperproto.FDPid); fd >= 0 {
		return fd
	}
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return -1
	}
	unix.CloseOnExec(fd)
	if tick, err := startTick(p.pid); err != nil || tick != p.meta.startTick {
		_ = unix.Close(fd)
		return -1
	}
	return fd
}

// hasOutput tells whether the process has written anything: gantry-init does not, so it was the user's
// program.
func (p *proc) hasOutput(h heldProc) bool {
	var st unix.Stat_t
	if unix.Fstat(p.sp.fd, &st) == nil && st.Size > 0 {
		return true
	}
	for _, kind := range []keeperproto.FDKind{keeperproto.FDStdout, keeperproto.FDStderr} {
		if fd, ok := h.fds[kind]; ok {
			if n, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err == nil && n > 0 {
				return true
			}
		}
	}
	return false
}

func (k *Keeper) recoverStreams(p *proc, h heldProc) (err error) {
	p.stdin = h.take(keeperproto.FDStdin)
	p.tty = h.take(keeperproto.FDTerminal)
	if p.sp.ended() {
		return nil
	}
	mode := unix.O_RDONLY
	if p.meta.terminal {
		mode = unix.O_RDWR
	}
	kinds := []keeperproto.FDKind{keeperproto.FDStdout, keeperproto.FDStderr}
	for i := range p.in {
		if i == 1 && p.meta.terminal {
			break
		}
		if p.in[i] = h.take(kinds[i]); p.in[i] >= 0 {
			continue
		}
		if p.in[i], err = p.openFIFO(i, mode); err != nil {
			return err
		}
	}
	return nil
}

// resume puts a recovered process back into the loop, which does not run yet.
func (k *Keeper) resume(p *proc) error {
	if p.pidfd >= 0 || p.tty >= 0 || p.in[0] >= 0 || p.in[1] >= 0 {
		if err := k.loop.attach(p); err != nil {
			return err
		}
	}
	k.anchor.hold(p)
	rec, err := readExit(p.dir)
	if err != nil {
		k.log.printf("exit record of %s: %v", p.key, err)
	}
	k.loop.post(func() {
		p.ready |= 3
		k.pump.enqueue(p)
		switch {
		case rec != nil && rec.Gen == p.gen:
			k.reaper.recorded(p, *rec)
		case p.pidfd < 0:
			// It is gone, and nobody saw how.
			k.reaper.reapForeign(p)
		default:
			p.mu.Lock()
			k.logs.kick(p)
			p.mu.Unlock()
		}
	})
	return nil
}

// recoverSink goes on throwing away what is written to a forgotten process's pipes.
func (k *Keeper) recoverSink(name string) {
	p := blankProc(k.procsD, name, spec.ProcessKey{Container: name}, 0)
	p.sink = true
	for i := range p.in {
		fd, err := p.openFIFO(i, unix.O_RDONLY)
		if err == nil {
			p.in[i] = fd
		}
	}
	k.table.addSink(p)
	if err := k.loop.attach(p); err != nil {
		k.log.printf("recovering %s: %v", name, err)
	}
	k.loop.post(func() { p.ready = 3; k.pump.enqueue(p) })
}
