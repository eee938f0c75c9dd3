package keeper

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
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

	loop     *eventLoop
	table    *table
	kept     *retention
	logs     *logWorkers
	pump     *pump
	exits    *exits
	reaper   *reaper
	remover  *remover
	launcher *launcher

	done chan struct{}

	cmu      sync.Mutex // clients, launches; after any proc.mu
	clients  map[*client]struct{}
	launches map[chan struct{}]*client // those under way

	stopAsked atomic.Bool
}

// Open takes the exec root over, recovers what is there, and listens.
func Open(cfg Config) (_ *Keeper, err error) {
	k := &Keeper{
		cfg: cfg, dir: filepath.Join(cfg.ExecRoot, keeperproto.Dir), clients: map[*client]struct{}{}, launches: map[chan struct{}]*client{},
		done: make(chan struct{}),
	}
	k.procsD = filepath.Join(k.dir, keeperproto.ProcsDir)
	if err := os.MkdirAll(k.procsD, 0o700); err != nil {
		return nil, fmt.Errorf("keeper: making its folder: %w", err)
	}
	k.log = openBoundedLog(filepath.Join(k.dir, keeperproto.LogName))
	if err := k.takeLock(); err != nil {
		return nil, err
	}
	failpoint.Hit("keeper.open-locked")
	k.table = newTable(raiseNofile())
	if k.loop, err = openEventLoop(); err != nil {
		return nil, err
	}
	k.furnish()
	held, err := k.anchor.open(cfg.AnchorFD)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("keeper.open-held")
	(&recovery{
		dir: k.procsD, log: k.log, table: k.table, loop: k.loop, anchor: k.anchor, kept: k.kept, logs: k.logs, pump: k.pump,
		reaper: k.reaper, spawner: cfg.Spawner,
	}).run(held)
	failpoint.Hit("keeper.open-recovered")
	return k, k.listen()
}

// furnish makes what works on processes, and makes it known to each other.
func (k *Keeper) furnish() {
	k.anchor = &anchorLink{log: k.log, table: k.table, loop: k.loop, path: k.cfg.AnchorPath, args: k.cfg.AnchorArgs, fd: -1}
	k.kept = newRetention(k.cfg.SpoolLimit, k.cfg.SpoolTotal)
	k.logs = newLogWorkers(k.log, k.kept)
	k.pump = &pump{loop: k.loop, log: k.log, kept: k.kept, logs: k.logs}
	k.exits = &exits{loop: k.loop, anchor: k.anchor, pump: k.pump, logs: k.logs, news: k}
	k.reaper = &reaper{loop: k.loop, log: k.log, exits: k.exits}
	k.remover = &remover{table: k.table, loop: k.loop, anchor: k.anchor, kept: k.kept, pump: k.pump}
	k.launcher = &launcher{
		dir: k.procsD, log: k.log, table: k.table, loop: k.loop, anchor: k.anchor, remover: k.remover, spawner: k.cfg.Spawner,
	}
	k.logs.waiting, k.logs.news = k.pump, k.exits
	k.pump.ends, k.pump.sinks = k.exits, k.remover
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
	go k.handleEvents()
	go k.accept()
	go k.anchor.run(k.reaper)
	<-k.done
	k.cfg.Spawner.Close()
	k.exits.closing.Wait()
	return nil
}

func (k *Keeper) accept() {
	for {
		c, err := k.ln.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			k.log.printf("accept: %v", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		go k.serve(c)
	}
}

// stopNow ends the keeper, when no process lives.
func (k *Keeper) stopNow() error {
	running := k.table.whileIdle(func() {
		if k.stopAsked.Swap(true) {
			return
		}
		k.anchor.stop()
		_ = os.Remove(filepath.Join(k.dir, keeperproto.SocketName))
		_ = k.ln.Close()
		k.loop.end()
		// The answer to the one who asked goes out first.
		time.AfterFunc(20*time.Millisecond, func() { close(k.done) })
	})
	if running != nil {
		return keeperproto.Error{Class: keeperproto.ClassPrecondition, Text: "the keeper cannot stop: " + running.key.String() + " still runs"}
	}
	return nil
}

func (k *Keeper) handleEvents() {
	if err := k.loop.run(events{k.pump, k.table, k.reaper}); err != nil {
		k.log.printf("%v", err)
	}
}

// events hands what the loop sees to those whose work it is.
type events struct {
	*pump
	table  *table
	reaper *reaper
}

func (e events) event(id, kind int32) {
	p := e.table.numbered(id)
	if p == nil {
		return
	}
	switch kind {
	case evStdout, evTerminal:
		p.ready |= 1
		e.enqueue(p)
	case evStderr:
		p.ready |= 2
		e.enqueue(p)
	case evPidfd:
		e.reaper.reap(p)
	}
}
