package keeper

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Times after which a new look is taken for the exit of a process that is
// another's child: the anchor's record, or what the kernel keeps for the pidfd.
var reapRetries = []time.Duration{time.Millisecond, 4 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 400 * time.Millisecond, time.Second}

// zombiePatience is after how many looks a zombie's status is taken from /proc.
const zombiePatience = 4

// siginfo is the part of siginfo_t that waitid fills, on 64-bit machines.
type siginfo struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
}

// Codes of SIGCHLD's siginfo.
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// reap is called in the loop when a pidfd says that its process has ended.
func (k *Keeper) reap(p *proc) {
	p.mu.Lock()
	if p.exit != nil || p.pidfd < 0 {
		p.mu.Unlock()
		return
	}
	pidfd := p.pidfd
	p.mu.Unlock()
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PIDFD, pidfd, &info, unix.WEXITED|unix.WALL|unix.WNOHANG|unix.WNOWAIT, nil)
	si := (*siginfo)(unsafe.Pointer(&info))
	if err == nil && si.pid == 0 {
		// Not yet: a thread outlives the leader. Wait for the next event.
		k.loop.rearm(p)
		return
	}
	if err != nil {
		k.reapForeign(p)
		return
	}
	x := p.exited(si.code, si.status)
	x.Exit.OOM = p.oomKilled()
	failpoint.Hit("keeper.exit-seen")
	k.record(p, x)
	failpoint.Hit("keeper.exit-recorded")
	_ = unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED|unix.WALL|unix.WNOHANG, nil)
	failpoint.Hit("keeper.exit-reaped")
	k.ended(p, x)
}

// exited makes an exit record of waitid's code and status.
func (p *proc) exited(code, status int32) keeperproto.Exited {
	x := keeperproto.Exited{Gen: p.gen, PID: int32(p.pid)}
	x.Exit = spec.Exit{Key: p.key, Time: time.Now()}
	switch code {
	case cldExited:
		x.Exit.Code = int(status & 0xff)
	case cldKilled, cldDumped:
		x.Exit.Signal = int(status)
		x.Exit.Code = 128 + int(status)
	default:
		x.Exit.Unknown, x.Exit.Code = true, 255
	}
	return x
}

// fromWaitStatus splits a wait status as PIDFD_GET_INFO gives it.
func fromWaitStatus(ws int32) (code, status int32) {
	w := unix.WaitStatus(uint32(ws))
	if w.Signaled() {
		return cldKilled, int32(w.Signal())
	}
	return cldExited, int32(w.ExitStatus())
}

// reapForeign learns the exit of a process that a former keeper made: from the anchor's record,
// or from the kernel through the pidfd. What nobody saw is recorded as unknown.
func (k *Keeper) reapForeign(p *proc) {
	if p.exit != nil {
		return
	}
	rec, err := readExit(p.dir)
	if err == nil && rec != nil && rec.Gen == p.gen {
		failpoint.Hit("keeper.exit-foreign")
		if !rec.Exit.OOM && p.oomKilled() {
			rec.Exit.OOM = true
			k.record(p, *rec)
		}
		k.ended(p, *rec)
		return
	}
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	pidfd := p.pidfd // -1 when it was gone before: then only a record helps
	if err := unix.IoctlPidfdInfo(pidfd, &info); err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
		x := p.exited(fromWaitStatus(info.Exit_code))
		x.Exit.OOM = p.oomKilled()
		k.record(p, x)
		k.ended(p, x)
		return
	}
	p.mu.Lock()
	n := p.reapWait
	p.reapWait++
	p.mu.Unlock()
	if ws, err := zombieStatus(p.pid, p.meta.startTick); err == nil && n >= zombiePatience {
		// Its parent is slow to reap. A zombie keeps its cgroup from being removed, so it had a while.
		x := p.exited(fromWaitStatus(ws))
		x.Exit.OOM = p.oomKilled()
		k.record(p, x)
		k.ended(p, x)
		return
	}
	if n < len(reapRetries) {
		time.AfterFunc(reapRetries[n], func() { k.loop.post(func() { k.reapForeign(p) }) })
		return
	}
	k.log.printf("exit of %s (pid %d): nobody saw its status", p.key, p.pid)
	x := p.exited(0, 0)
	x.Exit.OOM = p.oomKilled()
	k.record(p, x)
	k.ended(p, x)
}

// record writes the exit record: a file on tmpfs, whole or not there.
func (k *Keeper) record(p *proc, x keeperproto.Exited) {
	err := atomicfile.WriteVolatile(filepath.Join(p.dir, keeperproto.ExitName), x.Encode(), 0o600)
	if err != nil {
		k.log.printf("writing the exit record of %s: %v", p.key, err)
	}
}

// ended goes on after the exit record: drain, tell, clean up behind.
func (k *Keeper) ended(p *proc, x keeperproto.Exited) {
	p.mu.Lock()
	if p.exit != nil {
		p.mu.Unlock()
		return
	}
	p.exit = &x
	closeFD(&p.stdin)
	closeFD(&p.pidfd)
	p.mu.Unlock()
	k.anchor.retire(p)
	failpoint.Hit("keeper.exit-retired")
	p.ready |= 3
	for i := 0; i < 64 && p.ready != 0 && !k.pausedNow(p); i++ {
		k.pump(p)
	}
	if p.in[0] < 0 && p.in[1] < 0 {
		k.drainedNow(p)
		return
	}
	k.enqueue(p)
	time.AfterFunc(drainGrace, func() { k.loop.post(func() { k.cutOff(p) }) })
}

func (k *Keeper) pausedNow(p *proc) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused
}

// cutOff ends the output of a process whose pipe others hold open.
func (k *Keeper) cutOff(p *proc) {
	if p.sink || p.in[0] < 0 && p.in[1] < 0 {
		return
	}
	if p.ready != 0 || k.pausedNow(p) { // still at it
		time.AfterFunc(drainGrace, func() { k.loop.post(func() { k.cutOff(p) }) })
		return
	}
	closeFD(&p.tty)
	k.drainedNow(p)
	p.sink = true
	p.ready = 3
	k.enqueue(p)
}

// oomKilled asks the cgroup whether the kernel killed for memory since the launch.
func (p *proc) oomKilled() bool {
	n, ok := oomCount(p.meta.oomFile)
	return ok && n > p.meta.oomBase
}

// oomCount reads "oom_kill N" of memory.events (v2) or memory.oom_control (v1).
func oomCount(file string) (uint64, bool) {
	if file == "" {
		return 0, false
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("oom_kill ")); ok {
			n, err := strconv.ParseUint(string(v), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// tellIfDone tells of the exit when the log has everything. p.mu is held.
func (k *Keeper) tellIfDone(p *proc) {
	if p.drained && p.exit != nil && (p.flushed || p.meta.log.Driver == keeperproto.LogNone) {
		k.tell(p)
	}
}

// tell announces the exit, and only then lets the mount namespace go: its last
// unmount may take long. p.mu is held.
func (k *Keeper) tell(p *proc) {
	if p.told || p.exit == nil {
		return
	}
	p.told = true
	failpoint.Hit("keeper.exit-tell")
	k.broadcastExit(p)
	if p.mountNS >= 0 {
		fd := p.mountNS
		p.mountNS = -1
		k.closing.Add(1)
		go func() {
			defer k.closing.Done()
			_ = unix.Close(fd)
			failpoint.Hit("keeper.mounts-gone")
		}()
	}
}
