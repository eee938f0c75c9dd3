package keeper

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// Config is a keeper's.
type Config struct {
	// ExecRoot is the engine's exec root, on tmpfs; the keeper's files are in its keeper folder.
	ExecRoot string
	// AnchorFD is the inherited socket to the anchor, or -1.
	AnchorFD int
	// AnchorPath and AnchorArgs start a new anchor when the old one is gone; empty for never.
	AnchorPath string
	AnchorArgs []string
	Spawner    Spawner
	// Build is this binary's version.
	Build string
	// Exec replaces the process for an upgrade: path of the new binary, its arguments and environment.
	// Nil is unix.Exec.
	Exec func(path string, argv, env []string) error
	// SpoolLimit is how many unread bytes of a process are kept for attached
	// clients; SpoolTotal is for all of them. 0 is the default.
	SpoolLimit, SpoolTotal int64
}

// Keeper looks after processes.
type Keeper struct {
	cfg    Config
	dir    string // <exec root>/keeper
	procsD string
	lock   *os.File
	ln     *net.UnixListener
	anchor *anchorLink
	log    *boundedLog

	ep, wake int
	epFile   *os.File        // ep
	waiter   syscall.RawConn // of epFile
	stop     atomic.Bool
	done     chan struct{}
	closing  sync.WaitGroup // mount namespaces on their way out

	postMu sync.Mutex
	posted []func()
	queue  []*proc // the loop's
	spare  []*proc
	trash  []byte

	mu     sync.Mutex // procs, byID, nextID; before any proc.mu
	procs  map[string]*proc
	byID   map[int32]*proc
	nextID int32

	cmu      sync.Mutex // clients, launches; after any proc.mu
	clients  map[*client]struct{}
	launches map[chan struct{}]*client // those under way

	bufs   chan *logBuf
	unread atomic.Int64
	grace  atomic.Int64 // until when (Unix ns) nothing is punched: watches are coming back
	nofile uint64

	stopAsked atomic.Bool
}

// resumeGrace is how long a new keeper keeps everything for clients that were attached
// to the former one.
const resumeGrace = 10 * time.Second

// fdsPerProc is what one process may take of the descriptor budget.
const fdsPerProc = 8

// Open takes the exec root over, recovers what is there, and listens.
func Open(cfg Config) (_ *Keeper, err error) {
	if cfg.SpoolLimit <= 0 {
		cfg.SpoolLimit = defaultSpool
	}
	if cfg.SpoolTotal <= 0 {
		cfg.SpoolTotal = defaultTotal
	}
	k := &Keeper{
		cfg: cfg, dir: filepath.Join(cfg.ExecRoot, keeperproto.Dir), ep: -1, wake: -1,
		procs: map[string]*proc{}, byID: map[int32]*proc{}, clients: map[*client]struct{}{}, launches: map[chan struct{}]*client{},
		done: make(chan struct{}), bufs: make(chan *logBuf, logWorkers),
	}
	k.procsD = filepath.Join(k.dir, keeperproto.ProcsDir)
	for range logWorkers {
		k.bufs <- &logBuf{}
	}
	if err := os.MkdirAll(k.procsD, 0o700); err != nil {
		return nil, fmt.Errorf("keeper: making its folder: %w", err)
	}
	k.log = openBoundedLog(filepath.Join(k.dir, keeperproto.LogName))
	if err := k.takeLock(); err != nil {
		return nil, err
	}
	failpoint.Hit("keeper.open-locked")
	raiseNofile(&k.nofile)
	if err := k.openLoop(); err != nil {
		return nil, err
	}
	if k.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, err
	}
	if err := k.epollAdd(k.wake, 0, evWake, unix.EPOLLIN); err != nil {
		return nil, err
	}
	k.anchor = &anchorLink{k: k, fd: -1}
	held, err := k.anchor.open(cfg.AnchorFD)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("keeper.open-held")
	k.recover(held)
	failpoint.Hit("keeper.open-recovered")
	return k, k.listen()
}

func (k *Keeper) takeLock() error {
	f, err := os.OpenFile(filepath.Join(k.dir, keeperproto.KeeperLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return fmt.Errorf("keeper: another one looks after %s: %w", k.dir, err)
	}
	k.lock = f
	return nil
}

func (k *Keeper) listen() error {
	path := filepath.Join(k.dir, keeperproto.SocketName)
	tmp := path + ".new"
	_ = os.Remove(tmp)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return fmt.Errorf("keeper: listening: %w", err)
	}
	ln.SetUnlinkOnClose(false)
	if err := os.Chmod(tmp, 0o600); err != nil {
		return err
	}
	// Renamed into place, so that a client finds the old socket or the new one.
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	failpoint.Hit("keeper.open-listening")
	k.ln = ln
	return nil
}

// Run serves until Stop was asked for and nothing is left, or an upgrade replaces the process.
func (k *Keeper) Run() error {
	go k.loop()
	go k.accept()
	go k.anchor.run()
	<-k.done
	k.cfg.Spawner.Close()
	k.closing.Wait()
	return nil
}

func (k *Keeper) accept() {
	for {
		c, err := k.ln.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			k.logf("accept: %v", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		go k.serve(c)
	}
}

// stopNow ends the keeper, when no process lives.
func (k *Keeper) stopNow() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.procs {
		p.mu.Lock()
		alive := p.alive()
		p.mu.Unlock()
		if alive {
			return keeperproto.Error{Class: keeperproto.ClassPrecondition, Text: "the keeper cannot stop: " + p.key.String() + " still runs"}
		}
	}
	if k.stopAsked.Swap(true) {
		return nil
	}
	k.anchor.stop()
	_ = os.Remove(filepath.Join(k.dir, keeperproto.SocketName))
	_ = k.ln.Close()
	k.stop.Store(true)
	k.post(func() {})
	// The answer to the one who asked goes out first.
	time.AfterFunc(20*time.Millisecond, func() { close(k.done) })
	return nil
}

func (k *Keeper) graceful() bool {
	until := k.grace.Load()
	if until == 0 {
		return false
	}
	if time.Now().UnixNano() < until {
		return true
	}
	k.grace.Store(0)
	return false
}

func (k *Keeper) logf(format string, args ...any) { k.log.printf(format, args...) }

func newGen() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:]) | 1
}

// raiseNofile makes the soft limit of descriptors the hard one.
func raiseNofile(limit *uint64) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		*limit = 1024
		return
	}
	if r.Cur+1 < r.Max {
		r.Cur = r.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r)
	}
	*limit = r.Cur
}

// boundedLog is the keeper's own log: a file on the exec root that is begun anew when it is big.
type boundedLog struct {
	mu   sync.Mutex
	path string
	f    *os.File
	size int64
}

const ownLogMax = 1 << 20

func openBoundedLog(path string) *boundedLog {
	l := &boundedLog{path: path}
	l.reopen()
	return l
}

func (l *boundedLog) reopen() {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	l.f = f
	if st, err := f.Stat(); err == nil {
		l.size = st.Size()
	}
}

func (l *boundedLog) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return
	}
	if l.size > ownLogMax {
		_ = l.f.Close()
		_ = os.Rename(l.path, l.path+".1")
		l.f, l.size = nil, 0
		if l.reopen(); l.f == nil {
			return
		}
	}
	line := time.Now().UTC().Format(time.RFC3339Nano) + " keeper[" + fmt.Sprint(os.Getpid()) + "] " + fmt.Sprintf(format, args...) + "\n"
	n, _ := l.f.WriteString(line)
	l.size += int64(n)
}
