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

// reaper learns how processes ended and writes the exit records. Only the loop calls it.
type reaper struct {
	loop  *eventLoop
	log   *boundedLog
	exits *exits
}

// reap is called in the loop when a pidfd says that its process has ended.
func (r *reaper) reap(p *proc) {
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
		r.loop.rearm(p)
		return
	}
	if err != nil {
		r.reapForeign(p)
		return
	}
	x := p.exited(si.code, si.status)
	failpoint.Hit("keeper.exit-seen")
	r.record(p, x)
	failpoint.Hit("keeper.exit-recorded")
	_ = unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED|unix.WALL|unix.WNOHANG, nil)
	failpoint.Hit("keeper.exit-reaped")
	r.exits.ended(p, x)
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
	x.Exit.OOM = p.oomKilled()
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
func (r *reaper) reapForeign(p *proc) {
	if p.exit != nil {
		return
	}
	rec, err := readExit(p.dir)
	if err == nil && rec != nil && rec.Gen == p.gen {
		failpoint.Hit("keeper.exit-foreign")
		r.addOOM(p, rec)
		r.exits.ended(p, *rec)
		return
	}
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	pidfd := p.pidfd // -1 when it was gone before: then only a record helps
	if err := unix.IoctlPidfdInfo(pidfd, &info); err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
		r.settle(p, p.exited(fromWaitStatus(info.Exit_code)))
		return
	}
	p.mu.Lock()
	n := p.reapWait
	p.reapWait++
	p.mu.Unlock()
	if ws, err := zombieStatus(p.pid, p.meta.startTick); err == nil && n >= zombiePatience {
		// Its parent is slow to reap. A zombie keeps its cgroup from being removed, so it had a while.
		r.settle(p, p.exited(fromWaitStatus(ws)))
		return
	}
	if n < len(reapRetries) {
		time.AfterFunc(reapRetries[n], func() { r.loop.post(func() { r.reapForeign(p) }) })
		return
	}
	r.log.printf("exit of %s (pid %d): nobody saw its status", p.key, p.pid)
	r.settle(p, p.exited(0, 0))
}

// recorded goes on after an exit record that was written before a kill: the process may be a
// zombie of ours still (exec keeps children).
func (r *reaper) recorded(p *proc, x keeperproto.Exited) {
	if p.pidfd >= 0 {
		_ = unix.Waitid(unix.P_PIDFD, p.pidfd, nil, unix.WEXITED|unix.WALL|unix.WNOHANG, nil)
	}
	r.addOOM(p, &x)
	already := p.drained
	r.exits.ended(p, x)
	if already {
		r.exits.resumed(p)
	}
}

// settle records an exit and goes on after it.
func (r *reaper) settle(p *proc, x keeperproto.Exited) {
	r.record(p, x)
	r.exits.ended(p, x)
}

// addOOM completes an exit record that another process wrote, which knows no counters.
func (r *reaper) addOOM(p *proc, x *keeperproto.Exited) {
	if !x.Exit.OOM && p.oomKilled() {
		x.Exit.OOM = true
		r.record(p, *x)
	}
}

// record writes the exit record: a file on tmpfs, whole or not there.
func (r *reaper) record(p *proc, x keeperproto.Exited) {
	err := atomicfile.WriteVolatile(filepath.Join(p.dir, keeperproto.ExitName), x.Encode(), 0o600)
	if err != nil {
		r.log.printf("writing the exit record of %s: %v", p.key, err)
	}
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
