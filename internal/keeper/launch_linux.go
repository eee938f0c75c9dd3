package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
)

func protoError(c keeperproto.Class, format string, args ...any) error {
	return keeperproto.Error{Class: c, Text: fmt.Sprintf(format, args...)}
}

// launch makes a process; c's watches see its output from the first byte.
func (k *Keeper) launch(l keeperproto.Launch, files []int, c *client) (*proc, error) {
	name, err := keeperproto.ProcName(l.Key)
	if err != nil {
		return nil, protoError(keeperproto.ClassInvalid, "%v", err)
	}
	p, err := k.reserve(name, l)
	if err != nil {
		return nil, err
	}
	if err := k.start(p, l, files, c); err != nil {
		k.abandon(p)
		var known keeperproto.Error
		var launch *spec.LaunchError
		switch {
		case errors.As(err, &known):
			return nil, known
		case errors.As(err, &launch):
			return nil, keeperproto.Error{Class: keeperproto.ClassLaunch, Text: launch.Text, Stage: launch.Stage, Path: launch.Path, Errno: int32(launch.Errno)}
		}
		return nil, protoError(keeperproto.ClassUnknown, "launching %s: %v", l.Key, err)
	}
	return p, nil
}

// reserve makes the process's entry, so that its name is taken.
func (k *Keeper) reserve(name string, l keeperproto.Launch) (*proc, error) {
	if old := k.table.named(name); old != nil {
		old.mu.Lock()
		alive := old.alive()
		old.mu.Unlock()
		if alive {
			return nil, protoError(keeperproto.ClassAlreadyExists, "launching %s: it runs already", l.Key)
		}
		k.forget(old)
	}
	return k.table.reserve(name, l, func() (*proc, error) {
		p, err := newProc(k.procsD, name, l, newGen())
		if err != nil {
			return nil, protoError(keeperproto.ClassUnknown, "launching %s: %v", l.Key, err)
		}
		p.log.complains = k.log.printf
		failpoint.Hit("keeper.launch-reserved")
		return p, nil
	})
}

// start fills the entry: descriptors, log, the process itself.
func (k *Keeper) start(p *proc, l keeperproto.Launch, files []int, c *client) (err error) {
	req := SpawnRequest{Launch: l, Files: files, Target: 0, TargetPIDFD: -1, Stdin: -1, Stdout: -1, Stderr: -1}
	var mine []int // what the process gets; the keeper's copies go when it has them
	defer func() {
		for _, fd := range mine {
			_ = unix.Close(fd)
		}
	}()
	if err := k.openLog(p); err != nil {
		return err
	}
	if mine, err = k.openStdio(p, l, &req); err != nil {
		return err
	}
	if l.Key.Exec != "" {
		if req.Target, req.TargetPIDFD, err = k.target(l.Key); err != nil {
			return err
		}
		mine = append(mine, req.TargetPIDFD)
	}
	for _, j := range l.Join {
		fd, err := k.namespace(j)
		if err != nil {
			return err
		}
		mine = append(mine, fd)
		req.Joins = append(req.Joins, fd)
	}
	p.meta.oomBase, _ = oomCount(l.OOMFile)
	if c != nil {
		p.mu.Lock()
		for _, id := range l.Watches {
			p.addWatch(c, id, 0)
		}
		p.mu.Unlock()
	}
	req.Created = func(pid, pidfd int) error { return k.created(p, pid, pidfd) }
	req.Terminal = func(master int) error {
		p.mu.Lock()
		p.tty = master
		p.mu.Unlock()
		k.anchor.hold(p)
		failpoint.Hit("keeper.terminal-held")
		return unix.SetNonblock(master, true)
	}
	failpoint.Hit("keeper.launch-spawn")
	got, err := k.cfg.Spawner.Spawn(req)
	if err != nil {
		return err
	}
	p.mountNS = got.MountNS
	p.sp.slot.started.Store(got.Started.UnixNano())
	failpoint.Hit("keeper.launch-started")
	return k.loop.attach(p)
}

// openLog opens the log file before the process runs, so that a bad path fails the launch.
func (k *Keeper) openLog(p *proc) error {
	if p.meta.log.Driver == keeperproto.LogNone {
		return nil
	}
	size, err := p.log.open()
	if err != nil {
		return protoError(keeperproto.ClassInvalid, "launching %s: %v", p.key, err)
	}
	cur := logCursor{}
	if cur.offset = p.log.repair(size); cur.offset < size {
		if err := unix.Ftruncate(p.log.fd, cur.offset); err != nil {
			return err
		}
	}
	p.sp.slot.store(&cur)
	failpoint.Hit("keeper.launch-log-opened")
	return nil
}

// openStdio opens both sides of the process's pipes and gives the process's.
func (k *Keeper) openStdio(p *proc, l keeperproto.Launch, req *SpawnRequest) (theirs []int, err error) {
	if l.Terminal {
		// The FIFO is between terminal and spool; the keeper has both its ends.
		p.in[0], err = p.openFIFO(0, unix.O_RDWR)
		return nil, err
	}
	for i := range p.in {
		if p.in[i], err = p.openFIFO(i, unix.O_RDONLY); err != nil {
			return theirs, err
		}
		// For reading too: then it never sees SIGPIPE, whoever of us dies.
		fd, err := unix.Open(filepath.Join(p.dir, fifoNames[i]), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return theirs, err
		}
		theirs = append(theirs, fd)
	}
	req.Stdout, req.Stderr = theirs[0], theirs[1]
	if !l.Stdin {
		return theirs, nil
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return theirs, err
	}
	_ = unix.Fchmod(pipe[0], 0o666)
	_ = unix.SetNonblock(pipe[1], true)
	req.Stdin, p.stdin = pipe[0], pipe[1]
	return append(theirs, pipe[0]), nil
}

// target finds the container's init for an exec.
func (k *Keeper) target(key spec.ProcessKey) (pid, pidfd int, err error) {
	name, err := keeperproto.ProcName(spec.ProcessKey{Container: key.Container})
	if err != nil {
		return 0, -1, err
	}
	init := k.table.named(name)
	if init == nil {
		return 0, -1, protoError(keeperproto.ClassNotFound, "launching %s: the container does not run", key)
	}
	init.mu.Lock()
	defer init.mu.Unlock()
	if init.pidfd < 0 {
		return 0, -1, protoError(keeperproto.ClassNotFound, "launching %s: the container does not run", key)
	}
	fd, err := unix.FcntlInt(uintptr(init.pidfd), unix.F_DUPFD_CLOEXEC, 0)
	return init.pid, fd, err
}

// namespace opens a namespace of another process that runs.
func (k *Keeper) namespace(j keeperproto.Join) (int, error) {
	pid, pidfd, err := k.target(spec.ProcessKey{Container: j.Key.Container})
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	switch j.Kind {
	case "mnt", "net", "pid", "ipc", "uts", "user", "cgroup", "time":
	default:
		return -1, protoError(keeperproto.ClassInvalid, "joining the namespace %q of %s: there is no such kind", j.Kind, j.Key)
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, j.Kind), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, protoError(keeperproto.ClassNotFound, "joining the %s namespace of %s: %v", j.Kind, j.Key, err)
	}
	// Still that process: then the number meant it when it was opened.
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil {
		_ = unix.Close(fd)
		return -1, protoError(keeperproto.ClassNotFound, "joining the %s namespace of %s: it has ended", j.Kind, j.Key)
	}
	return fd, nil
}

// created makes the new process known to the exec root and the anchor, before it may go on.
func (k *Keeper) created(p *proc, pid, pidfd int) error {
	p.mu.Lock()
	p.pid, p.pidfd, p.child = pid, pidfd, true
	p.mu.Unlock()
	p.meta.pid = pid
	tick, err := startTick(pid)
	if err != nil {
		return err
	}
	p.meta.startTick = tick
	failpoint.Hit("keeper.launch-cloned")
	if err := p.writeMeta(); err != nil {
		return fmt.Errorf("recording the process: %w", err)
	}
	failpoint.Hit("keeper.launch-recorded")
	k.anchor.hold(p)
	failpoint.Hit("keeper.launch-held")
	return nil
}

// abandon undoes a launch that failed. The spawner has made the process end.
func (k *Keeper) abandon(p *proc) {
	p.mu.Lock()
	pidfd := p.pidfd
	ran := p.sp.slot != nil && p.sp.slot.started.Load() != 0
	p.mu.Unlock()
	if pidfd >= 0 {
		if ran {
			_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
			_ = unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED|unix.WALL, nil)
		}
		k.anchor.drop(p)
	}
	failpoint.Hit("keeper.launch-undone")
	k.loop.post(func() { k.remove(p) })
	// The name must be free when the caller hears of the failure.
	k.table.unname(p)
	_ = os.RemoveAll(p.dir)
}

// remove closes everything of a process. Only the loop calls it.
func (k *Keeper) remove(p *proc) {
	k.table.remove(p)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready, p.gone = 0, true
	for w := range p.watches {
		w.c.dropWatch(w)
	}
	p.watches = nil
	if p.sp.slot != nil {
		k.kept.gave(&p.sp)
	}
	if !p.logBusy {
		p.closeAll()
	}
}

// forget drops an ended process: its folder goes, its name is free.
func (k *Keeper) forget(p *proc) {
	done := make(chan struct{})
	k.loop.post(func() {
		defer close(done)
		if !k.table.unname(p) {
			return
		}
		k.anchor.drop(p)
		failpoint.Hit("keeper.forget-dropped")
		if p.meta.terminal { // only the keeper itself writes to this FIFO
			closeFD(&p.in[0])
		}
		if p.in[0] >= 0 || p.in[1] >= 0 {
			k.toSink(p)
			return
		}
		_ = os.RemoveAll(p.dir)
		failpoint.Hit("keeper.forget-removed")
		k.remove(p)
	})
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
}

// toSink keeps reading, for nobody, what others still write to a forgotten
// process's pipes: they must neither be stopped nor see an error. Only the loop calls it.
func (k *Keeper) toSink(p *proc) {
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
	k.pump.enqueue(p)
}

// sinkDone ends a sink when its last writer is gone.
func (k *Keeper) sinkDone(p *proc) {
	if k.table.has(p) {
		return // cut off, but not forgotten yet
	}
	_ = os.RemoveAll(p.dir)
	failpoint.Hit("keeper.sink-removed")
	k.remove(p)
}
