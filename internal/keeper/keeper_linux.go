package keeper

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
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

// Keeper looks after processes: it makes all that does so, and ends it.
type Keeper struct {
	cfg  Config
	dir  string // <exec root>/keeper
	lock *os.File
	ln   *net.UnixListener
	log  *boundedLog

	table   *table
	loop    *eventLoop
	anchor  *anchorLink
	events  events
	exits   *exits
	service *service

	stopAsked atomic.Bool
	done      chan struct{}
}

// Open takes the exec root over, recovers what is there, and listens.
func Open(cfg Config) (_ *Keeper, err error) {
	k := &Keeper{cfg: cfg, dir: filepath.Join(cfg.ExecRoot, keeperproto.Dir), done: make(chan struct{})}
	procs := filepath.Join(k.dir, keeperproto.ProcsDir)
	if err := os.MkdirAll(procs, 0o700); err != nil {
		return nil, fmt.Errorf("keeper: making its folder: %w", err)
	}
	k.log = openBoundedLog(filepath.Join(k.dir, keeperproto.LogName))
	inherited := inherit()
	if err := k.takeLock(inherited.lock); err != nil {
		return nil, err
	}
	failpoint.Hit("keeper.open-locked")
	k.table = newTable(raiseNofile())
	if k.loop, err = openEventLoop(); err != nil {
		return nil, err
	}
	former := k.furnish(procs)
	held, err := k.anchor.open(cfg.AnchorFD)
	switch {
	case err != nil && inherited.lock < 0:
		return nil, err
	case err != nil: // the anchor died while this binary was executed; run starts another
		k.log.printf("the anchor: %v", err)
	}
	failpoint.Hit("keeper.open-held")
	former.recover(inherited.with(held))
	failpoint.Hit("keeper.open-recovered")
	return k, k.listen()
}

// furnish makes what works on processes, whose folders are in procs, and makes it known to each other. It gives what takes
// over a former keeper's.
func (k *Keeper) furnish(procs string) *recovery {
	log, table, loop, spawner := k.log, k.table, k.loop, k.cfg.Spawner
	link := &anchorLink{log: log, table: table, loop: loop, path: k.cfg.AnchorPath, args: k.cfg.AnchorArgs, fd: -1, echo: make(chan struct{}, 1)}
	audience := &clients{conns: map[*client]struct{}{}}

	kept := newRetention(k.cfg.SpoolLimit, k.cfg.SpoolTotal)
	logs := newLogWorkers(log, kept)
	mover := &pump{loop: loop, log: log, kept: kept, logs: logs}
	ends := &exits{loop: loop, anchor: link, pump: mover, logs: logs, news: audience}
	wait := &reaper{loop: loop, log: log, exits: ends}
	away := &remover{table: table, loop: loop, anchor: link, kept: kept, pump: mover}
	logs.waiting, logs.news = mover, ends
	mover.ends, mover.sinks = ends, away

	k.anchor, k.exits = link, ends
	k.events = events{pump: mover, table: table, reaper: wait}
	k.service = &service{
		build: k.cfg.Build, log: log, table: table, anchor: link, kept: kept, remover: away, clients: audience, life: k,
		launcher: &launcher{dir: procs, log: log, table: table, loop: loop, anchor: link, remover: away, spawner: spawner},
		inflight: &inflight{by: map[chan struct{}]*client{}},
	}
	return &recovery{
		dir: procs, log: log, table: table, loop: loop, anchor: link, kept: kept, logs: logs, pump: mover, reaper: wait,
		spawner: spawner,
	}
}

// lockPatience is how long the lock is tried: a client that looks whether a keeper lives takes it for an instant.
const lockPatience = 100 * time.Millisecond

// takeLock makes this the one keeper of the exec root, if it did not inherit that.
func (k *Keeper) takeLock(inherited int) error {
	if inherited >= 0 {
		k.lock = os.NewFile(uintptr(inherited), keeperproto.KeeperLock)
		return nil
	}
	f, err := os.OpenFile(filepath.Join(k.dir, keeperproto.KeeperLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if time.Since(began) > lockPatience {
			_ = f.Close()
			return fmt.Errorf("keeper: another one looks after %s: %w", k.dir, err)
		}
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
	go func() {
		if err := k.loop.run(k.events); err != nil {
			k.log.printf("%v", err)
		}
	}()
	go k.service.accept(k.ln)
	go k.anchor.run(k.events.reaper)
	<-k.done
	k.cfg.Spawner.Close()
	k.exits.closing.Wait()
	return nil
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
