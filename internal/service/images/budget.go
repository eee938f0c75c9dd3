package images

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/spec"
)

// Disk measures the data root. Implemented by driver/disk.
type Disk interface {
	Measure(ctx context.Context) (spec.DiskUse, error)
}

// budget keeps the data root below a size: the images that nobody uses go, those first that were not used for longest.
type budget struct {
	disk    Disk
	catalog *catalog
	users   *users
	remove  *remover
	uses    *lastUse
	log     *slog.Logger

	limit  atomic.Int64 // bytes; 0 is none
	kick   chan struct{}
	closed chan struct{}
	once   sync.Once
	begin  sync.Once
	told   bool // that there is nothing left to remove
}

const (
	// budgetEvery is how often the data root is measured if nothing happens to images: containers and volumes grow, too.
	budgetEvery = 5 * time.Minute
	// budgetPause gathers what happens at one time.
	budgetPause = time.Second
	// budgetGrace is how long an image is left alone after it was used: who pulls one wants to run it.
	budgetGrace = 10 * time.Minute
	// budgetRoom is how much below the limit a clean-up goes, in percent, so that not each pull begins another.
	budgetRoom = 5
)

func newBudget(d Deps, c *catalog, u *users, r *remover, l *lastUse, log *slog.Logger) *budget {
	return &budget{disk: d.Disk, catalog: c, users: u, remove: r, uses: l, log: log, kick: make(chan struct{}, 1), closed: make(chan struct{})}
}

// Budget bounds what the data root takes, in bytes; 0 is no bound.
func (b *budget) Budget(limit int64) {
	if b.disk == nil {
		return
	}
	b.limit.Store(limit)
	if limit > 0 {
		b.begin.Do(func() { go b.run() })
		b.look()
	}
}

// look has the data root measured soon.
func (b *budget) look() {
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

func (b *budget) close() { b.once.Do(func() { close(b.closed) }) }

func (b *budget) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t := time.NewTicker(budgetEvery)
	defer t.Stop()
	for {
		select {
		case <-b.closed:
			return
		case <-t.C:
		case <-b.kick:
			select {
			case <-b.closed:
				return
			case <-time.After(budgetPause):
			}
		}
		if err := b.enforce(ctx, time.Now()); err != nil {
			b.log.Warn("the disk budget cannot be kept", "error", err)
		}
	}
}

// enforce removes images until the data root is below the budget.
func (b *budget) enforce(ctx context.Context, now time.Time) error {
	limit := b.limit.Load()
	if limit <= 0 {
		return nil
	}
	size, err := b.size(ctx)
	if err != nil || size <= limit {
		b.told = b.told && err != nil
		return err
	}
	goal := limit - limit*budgetRoom/100
	for _, e := range b.unused(ctx, now) {
		if size <= goal {
			b.told = false
			return nil
		}
		b.log.Info("an image is removed to keep the disk budget", "image", e.title(), "last-used", b.uses.of(e), "size", size, "budget", limit)
		if err := b.evict(ctx, e); err != nil {
			b.log.Warn("an image was not removed", "image", e.title(), "error", err)
			continue
		}
		if size, err = b.size(ctx); err != nil {
			return err
		}
	}
	if size > limit && !b.told {
		b.told = true
		return fmt.Errorf("the data root takes %s of %s, and no image is left that nobody uses: containers and volumes need the rest", units.HumanSize(float64(size)), units.HumanSize(float64(limit)))
	}
	return nil
}

// size is what the data root takes, without what is being deleted.
func (b *budget) size(ctx context.Context) (int64, error) {
	u, err := b.disk.Measure(ctx)
	size := u.Total
	for _, p := range u.Parts {
		if p.Where == "layers/trash" {
			size -= p.Bytes
		}
	}
	return size, err
}

// unused are the images that may go, in their order: those without a name, then the others, each by their last use.
func (b *budget) unused(ctx context.Context, now time.Time) []*entry {
	users := b.users.byImage(ctx)
	list := slices.DeleteFunc(b.catalog.all(), func(e *entry) bool {
		return len(users[e.target.Digest]) > 0 || now.Sub(b.uses.of(e)) < budgetGrace
	})
	slices.SortStableFunc(list, func(x, y *entry) int {
		if (len(x.names) == 0) != (len(y.names) == 0) {
			return len(x.names) - len(y.names)
		}
		return b.uses.of(x).Compare(b.uses.of(y))
	})
	return list
}

// evict removes an image with all its names.
func (b *budget) evict(ctx context.Context, e *entry) error {
	refs := slices.Clone(e.names)
	if len(refs) == 0 {
		refs = []string{e.target.Digest.String()}
	}
	for _, ref := range refs {
		if _, err := b.remove.untag(ctx, ref, false, b.users.all(ctx)); err != nil {
			return err
		}
	}
	b.catalog.sweep(ctx)
	b.uses.keep(func(id digest.Digest) bool { return b.catalog.byExact(id) != nil })
	return nil
}
