// Package anchor is the engine of gantry-anchor, the process above the keeper. It
// starts the keeper, and the next one when that dies; holds a copy of
// every pidfd, pipe and terminal; and as child subreaper inherits a dead keeper's
// children, reaps them and writes their exit records. It is never upgraded while containers run,
// so it does nothing else.
package anchor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Config is an anchor's.
type Config struct {
	ExecRoot string
	// Keeper is the program to start, with its arguments; "--anchor-fd 3" is added.
	Keeper     string
	KeeperArgs []string
	// Adopt is a socket to a keeper that runs already, or -1.
	Adopt int
}

// held is what is kept for one process.
type held struct {
	gen   uint64
	pid   int
	kinds []keeperproto.FDKind
	fds   []int
}

func (h *held) close(kind keeperproto.FDKind) {
	for i := len(h.kinds) - 1; i >= 0; i-- {
		if kind == 0 || h.kinds[i] == kind {
			_ = unix.Close(h.fds[i])
			h.fds = append(h.fds[:i], h.fds[i+1:]...)
			h.kinds = append(h.kinds[:i], h.kinds[i+1:]...)
		}
	}
}

type anchor struct {
	cfg     Config
	mu      sync.Mutex
	byName  map[string]*held
	sock    int
	keeper  int // PID, 0 when adopted
	died    chan struct{}
	stopped bool
}

// Run holds the anchor's place until the keeper has ended in good order. Only one
// anchor of an exec root runs: errAnchored is for the second.
func Run(cfg Config) error {
	dir := filepath.Join(cfg.ExecRoot, keeperproto.Dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("anchor: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, keeperproto.LockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("anchor: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("anchor: another one holds %s already", dir)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("anchor: becoming a subreaper: %w", err)
	}
	failpoint.Hit("anchor.locked")
	pid := filepath.Join(dir, keeperproto.AnchorPID)
	_ = atomicfile.Sweep(pid) // of an anchor that died while it wrote
	_ = atomicfile.WriteVolatile(pid, fmt.Appendln(nil, os.Getpid()), 0o600)
	raiseNofile()
	a := &anchor{cfg: cfg, byName: map[string]*held{}, sock: -1, died: make(chan struct{}, 1)}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			a.reapAll()
		}
	}()
	return a.run()
}

func raiseNofile() {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) == nil && r.Cur+1 < r.Max {
		r.Cur = r.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r)
	}
}

// How long the anchor waits before it starts a keeper again that has died within a second.
const (
	minBackoff = 10 * time.Millisecond
	maxBackoff = time.Second
)

func (a *anchor) run() error {
	backoff := minBackoff
	for {
		began := time.Now()
		if a.cfg.Adopt >= 0 {
			a.sock, a.cfg.Adopt = a.cfg.Adopt, -1
			failpoint.Hit("anchor.adopted")
			unix.CloseOnExec(a.sock)
			a.listen()
		} else {
			if err := a.start(); err != nil {
				return err
			}
			a.listen()
			<-a.died // reaped: nobody is there beside the next one
		}
		a.mu.Lock()
		_ = unix.Close(a.sock)
		a.sock = -1
		stopped := a.stopped
		a.mu.Unlock()
		if stopped {
			return nil
		}
		// A keeper that dies again and again must not take the machine; but nothing is launched or ends
		// without one.
		if time.Since(began) >= time.Second {
			backoff = minBackoff
			continue
		}
		time.Sleep(backoff)
		backoff = min(2*backoff, maxBackoff)
	}
}

// start runs a keeper with our socket as descriptor 3.
func (a *anchor) start() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("anchor: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "anchor socket")
	defer theirs.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	args := append([]string{a.cfg.Keeper}, append(a.cfg.KeeperArgs, "--anchor-fd", "3")...)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	p, err := os.StartProcess(a.cfg.Keeper, args, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{null, null, null, theirs},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		_ = unix.Close(pair[0])
		return fmt.Errorf("anchor: starting the keeper: %w", err)
	}
	a.sock, a.keeper = pair[0], p.Pid
	failpoint.Hit("anchor.keeper-started")
	_ = p.Release()
	return nil
}

// listen serves the keeper until it is gone.
func (a *anchor) listen() {
	for {
		m, err := keeperproto.ReceivePacket(a.sock)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			if errors.Is(err, keeperproto.ErrMalformed) {
				continue
			}
			return
		}
		if m.Type == keeperproto.TypeHello {
			a.giveBack()
			continue
		}
		a.mu.Lock()
		a.handle(&m)
		a.mu.Unlock()
		m.CloseFDs()
	}
}

// handle keeps or drops. a.mu is held.
func (a *anchor) handle(m *keeperproto.Message) {
	switch m.Type {
	case keeperproto.TypeAnchorStop:
		a.stopped = true
		return
	case keeperproto.TypeEcho:
		_ = keeperproto.SendPacket(a.sock, keeperproto.Message{Type: keeperproto.TypeEcho})
		return
	}
	h, err := keeperproto.DecodeHold(m.Payload)
	if err != nil {
		return
	}
	old := a.byName[h.Name]
	switch m.Type {
	case keeperproto.TypeHold:
		if len(h.Kinds) != len(m.FDs) {
			return
		}
		if old != nil {
			old.close(0)
		}
		a.byName[h.Name] = &held{gen: h.Gen, pid: int(h.PID), kinds: h.Kinds, fds: m.FDs}
		m.FDs = nil
		failpoint.Hit("anchor.held")
	case keeperproto.TypeRetire:
		if old == nil || old.gen != h.Gen {
			return
		}
		kinds := h.Kinds
		if len(kinds) == 0 {
			kinds = []keeperproto.FDKind{keeperproto.FDStdin, keeperproto.FDPid}
		}
		for _, kind := range kinds {
			old.close(kind)
		}
		failpoint.Hit("anchor.retired")
	case keeperproto.TypeDrop:
		if old != nil && (h.Gen == 0 || old.gen == h.Gen) {
			old.close(0)
			delete(a.byName, h.Name)
			failpoint.Hit("anchor.dropped")
		}
	}
}

// giveBack sends a new keeper everything.
func (a *anchor) giveBack() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, h := range a.byName {
		msg := keeperproto.Hold{Name: name, Gen: h.gen, PID: int32(h.pid), Kinds: h.kinds}
		if keeperproto.SendPacket(a.sock, keeperproto.Message{Type: keeperproto.TypeHeld, Payload: msg.Encode(), FDs: h.fds}) != nil {
			return
		}
	}
	failpoint.Hit("anchor.giving-back")
	_ = keeperproto.SendPacket(a.sock, keeperproto.Message{Type: keeperproto.TypeHeldEnd})
	failpoint.Hit("anchor.gave-back")
}

type siginfo struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
}

// reapAll reaps what has ended: the keeper, and what a dead keeper left behind. Each record is on
// disk before its process is reaped.
func (a *anchor) reapAll() {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WALL|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		si := asSiginfo(&info)
		if err != nil || si.pid == 0 {
			return
		}
		a.mu.Lock()
		isKeeper := int(si.pid) == a.keeper
		var name string
		var h *held
		for n, x := range a.byName {
			if x.pid == int(si.pid) {
				name, h = n, x
			}
		}
		sock := a.sock
		a.mu.Unlock()
		if h != nil {
			failpoint.Hit("anchor.orphan-seen")
			a.record(name, h, si)
			failpoint.Hit("anchor.orphan-recorded")
		}
		_ = unix.Waitid(unix.P_PID, int(si.pid), nil, unix.WEXITED|unix.WALL|unix.WNOHANG, nil)
		if isKeeper {
			a.mu.Lock()
			a.keeper = 0
			a.mu.Unlock()
			failpoint.Hit("anchor.keeper-died")
			a.died <- struct{}{}
		}
		if h != nil && sock >= 0 {
			failpoint.Hit("anchor.orphan-reaped")
			o := keeperproto.Orphan{Name: name, PID: si.pid}
			_ = keeperproto.SendPacket(sock, keeperproto.Message{Type: keeperproto.TypeOrphan, Payload: o.Encode()})
			failpoint.Hit("anchor.orphan-told")
		}
	}
}

// record writes an orphan's exit record, unless there is one.
func (a *anchor) record(name string, h *held, si *siginfo) {
	path := filepath.Join(a.cfg.ExecRoot, keeperproto.Dir, keeperproto.ProcsDir, name, keeperproto.ExitName)
	if b, err := os.ReadFile(path); err == nil {
		if x, err := keeperproto.DecodeExited(b); err == nil && x.Gen == h.gen {
			return
		}
	}
	x := keeperproto.Exited{Gen: h.gen, PID: si.pid, Exit: spec.Exit{Key: keeperproto.KeyOf(name), Time: time.Now()}}
	const exited = 1
	if si.code == exited {
		x.Exit.Code = int(si.status & 0xff)
	} else {
		x.Exit.Signal, x.Exit.Code = int(si.status), 128+int(si.status)
	}
	_ = atomicfile.WriteVolatile(path, x.Encode(), 0o600)
}

// StartBelow starts an anchor for a keeper that has lost its own, as a child of the caller, and gives
// the caller's end of their socket. args are the anchor's; "--adopt 3" is added.
func StartBelow(path string, args []string) (sock int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "anchor socket")
	defer theirs.Close()
	cmd := exec.Command(path, append(append([]string(nil), args...), "--adopt", "3")...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = unix.Close(pair[0])
		return -1, err
	}
	go func() { _ = cmd.Wait() }()
	return pair[0], nil
}
