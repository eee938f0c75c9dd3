package keeper

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
)

func protoError(c keeperproto.Class, format string, args ...any) error {
	return keeperproto.Error{Class: c, Text: fmt.Sprintf(format, args...)}
}

// launcher makes processes: an entry first, then what the process needs, then the process itself; or nothing of it. Many
// launches may be under way.
type launcher struct {
	dir     string // of the processes' folders
	log     *boundedLog
	table   *table
	loop    *eventLoop
	anchor  *anchorLink
	remover *remover
	spawner Spawner
}

// launch makes a process; c's watches see its output from the first byte.
func (s *launcher) launch(l keeperproto.Launch, files []int, c *client) (*proc, error) {
	name, err := keeperproto.ProcName(l.Key)
	if err != nil {
		return nil, protoError(keeperproto.ClassInvalid, "%v", err)
	}
	p, err := s.reserve(name, l)
	if err != nil {
		return nil, err
	}
	if err := s.start(p, l, files, c); err != nil {
		s.abandon(p)
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
func (s *launcher) reserve(name string, l keeperproto.Launch) (*proc, error) {
	if old := s.table.named(name); old != nil {
		if old.runs() {
			return nil, protoError(keeperproto.ClassAlreadyExists, "launching %s: it runs already", l.Key)
		}
		s.remover.forget(old)
	}
	return s.table.reserve(name, l, func() (*proc, error) {
		p, err := newProc(s.dir, name, l, newGen())
		if err != nil {
			return nil, protoError(keeperproto.ClassUnknown, "launching %s: %v", l.Key, err)
		}
		p.log.file.complains = s.log.printf
		failpoint.Hit("keeper.launch-reserved")
		return p, nil
	})
}

// newGen makes a number that tells one launch of a name from another.
func newGen() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:]) | 1
}

// start fills the entry: descriptors, log, the process itself.
func (s *launcher) start(p *proc, l keeperproto.Launch, files []int, c *client) (err error) {
	req := SpawnRequest{Launch: l, Files: files, Target: 0, TargetPIDFD: -1, Stdin: -1, Stdout: -1, Stderr: -1}
	var mine []int // what the process gets; the keeper's copies go when it has them
	defer func() {
		for _, fd := range mine {
			_ = unix.Close(fd)
		}
	}()
	if mine, err = p.openStdio(l, &req); err != nil {
		return err
	}
	if l.Key.Exec != "" {
		if req.Target, req.TargetPIDFD, err = s.target(l.Key); err != nil {
			return err
		}
		mine = append(mine, req.TargetPIDFD)
	}
	for _, j := range l.Join {
		fd, err := s.namespace(j)
		if err != nil {
			return err
		}
		mine = append(mine, fd)
		req.Joins = append(req.Joins, fd)
	}
	if c != nil {
		p.mu.Lock()
		for _, id := range l.Watches {
			p.addWatch(c, id, 0)
		}
		p.mu.Unlock()
	}
	req.Created = func(pid, pidfd int) error { return s.created(p, pid, pidfd) }
	req.Terminal = func(master int) error {
		p.mu.Lock()
		p.tty = master
		p.mu.Unlock()
		s.anchor.hold(p)
		failpoint.Hit("keeper.terminal-held")
		return unix.SetNonblock(master, true)
	}
	failpoint.Hit("keeper.launch-spawn")
	got, err := s.spawner.Spawn(req)
	if err != nil {
		return err
	}
	p.mountNS = got.MountNS
	p.sp.slot.started.Store(got.Started.UnixNano())
	failpoint.Hit("keeper.launch-started")
	return s.loop.attach(p)
}

// target finds the container's init for an exec.
func (s *launcher) target(key spec.ProcessKey) (pid, pidfd int, err error) {
	name, err := keeperproto.ProcName(spec.ProcessKey{Container: key.Container})
	if err != nil {
		return 0, -1, err
	}
	init := s.table.named(name)
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
func (s *launcher) namespace(j keeperproto.Join) (int, error) {
	pid, pidfd, err := s.target(spec.ProcessKey{Container: j.Key.Container})
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

// created makes the new process known to the exec root and the anchor, before it may go on. What else it needs by
// then is done here too, as it is busy entering its cgroups meanwhile.
func (s *launcher) created(p *proc, pid, pidfd int) error {
	p.mu.Lock()
	p.pid, p.pidfd, p.child = pid, pidfd, true
	p.mu.Unlock()
	p.meta.pid = pid
	if err := p.openLog(); err != nil {
		return err
	}
	p.meta.oomBase, _ = oomCount(p.meta.oomFile)
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
	s.anchor.hold(p)
	failpoint.Hit("keeper.launch-held")
	return nil
}

// abandon undoes a launch that failed. The spawner has made the process end.
func (s *launcher) abandon(p *proc) {
	p.mu.Lock()
	pidfd := p.pidfd
	ran := p.sp.slot != nil && p.sp.slot.started.Load() != 0
	p.mu.Unlock()
	if pidfd >= 0 {
		if ran {
			_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
			_ = unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED|unix.WALL, nil)
		}
		s.anchor.drop(p)
	}
	failpoint.Hit("keeper.launch-undone")
	s.loop.post(func() { s.remover.remove(p) })
	// The name must be free when the caller hears of the failure.
	s.table.unname(p)
	_ = os.RemoveAll(p.dir)
}
