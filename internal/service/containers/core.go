package containers

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/gantry-engine/gantry/internal/kit/behind"
	"github.com/gantry-engine/gantry/internal/kit/keylock"
	"github.com/gantry-engine/gantry/internal/service/containers/folders"
	"github.com/gantry-engine/gantry/internal/service/containers/notes"
)

// core is what all use cases share: the ports, the index, the locks.
type core struct {
	Deps
	reg   *registry
	locks keylock.Locker // by container ID; held while changing, never while waiting or streaming
	now   func() time.Time
	after func(d time.Duration, f func()) (cancel func())
	log   *slog.Logger

	unfinished notes.Unfinished
	owners     notes.Owners

	// base outlives requests and ends with Shutdown: restarts, health checks and exits run under it.
	base context.Context
	stop context.CancelCauseFunc

	ready chan struct{} // closed by Resume: containers can be started

	folders *folders.Folders
	behind  behind.Work // tear-downs and deletions that nobody waits for

	tuning atomic.Pointer[Tuning]
}

func newCore(d Deps) *core {
	d.Config = d.Config.withDefaults()
	base, stop := context.WithCancelCause(context.Background())
	c := &core{
		Deps: d, reg: newRegistry(), now: func() time.Time { return time.Now().UTC() },
		after:      func(d time.Duration, f func()) func() { t := time.AfterFunc(d, f); return func() { t.Stop() } },
		log:        slog.Default().With("component", "containers"),
		unfinished: notes.Unfinished{Dir: filepath.Join(d.Config.ExecRoot, "unfinished")},
		owners:     notes.Owners{Dir: filepath.Join(d.Config.DataRoot, "auto-remove-volumes")},
		folders:    folders.New(filepath.Join(d.Config.DataRoot, "containers", ".spare")),
		base:       base, stop: stop, ready: make(chan struct{}),
	}
	c.Retune(Tuning{DefaultRuntime: d.Config.DefaultRuntime, ShmSize: d.Config.ShmSize, StopTimeout: d.Config.StopTimeout})
	return c
}

// Tuning are the settings that may change while the service runs; they begin as in Config.
type Tuning struct {
	DefaultRuntime string
	ShmSize        int64 // bytes
	StopTimeout    *int  // see Config
}

// Retune changes the settings for what is created and stopped from now on. Values that
// say nothing mean the defaults.
func (c *core) Retune(t Tuning) {
	d := Config{DefaultRuntime: t.DefaultRuntime, ShmSize: t.ShmSize}.withDefaults()
	c.tuning.Store(&Tuning{DefaultRuntime: d.DefaultRuntime, ShmSize: d.ShmSize, StopTimeout: t.StopTimeout})
}

// durability is how much a change of a record must survive.
type durability uint8

const (
	inMemory durability = iota // nothing is written
	soon                       // within a second: what the keeper could tell again
	durable                    // before the answer: an API promise
)

// open resolves ref and locks the container. The caller unlocks.
func (c *core) open(ctx context.Context, ref string) (*entry, func(), error) {
	e, err := c.reg.get(ref)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := c.locks.Lock(ctx, e.id)
	if err != nil {
		return nil, nil, err
	}
	if c.reg.byID(e.id) != e { // removed while we waited
		unlock()
		return nil, nil, noSuch(ref)
	}
	return e, unlock, nil
}

// openSettled is open for a start: what the run before held is free by then.
func (c *core) openSettled(ctx context.Context, ref string) (*entry, func(), error) {
	for {
		e, unlock, err := c.open(ctx, ref)
		if err != nil {
			return nil, nil, err
		}
		torn := e.tearDown()
		if torn == nil {
			return e, unlock, nil
		}
		unlock()
		select {
		case <-torn:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// change makes a new version of the record: disk first, then memory. The caller
// holds the container's lock. edit gets a shallow copy and must not fail.
func (c *core) change(ctx context.Context, e *entry, d durability, edit func(*Container)) (*Container, error) {
	next := *e.snapshot()
	edit(&next)
	if err := c.save(ctx, &next, d); err != nil {
		return nil, err
	}
	e.rec.Store(&next)
	return &next, nil
}

func (c *core) save(ctx context.Context, rec *Container, d durability) error {
	if d == inMemory {
		return nil
	}
	data, err := rec.encode()
	if err != nil {
		return err
	}
	switch {
	case d == soon:
		c.Records.SaveSoon(rec.ID, data)
	case rec.Volatile:
		return c.Records.SaveVolatile(ctx, rec.ID, data)
	default:
		return c.Records.Save(ctx, rec.ID, data)
	}
	return nil
}
