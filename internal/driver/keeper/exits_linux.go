package keeper

import (
	"context"
	"sync"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
)

// exitBoard collects exits from one keeper after the other and delivers each once.
type exitBoard struct {
	mu    sync.Mutex
	seen  map[spec.ProcessKey]uint64 // launch that was delivered, until Forget
	queue []spec.Exit
	wake  chan struct{}
}

func newExitBoard() *exitBoard {
	return &exitBoard{seen: map[spec.ProcessKey]uint64{}, wake: make(chan struct{}, 1)}
}

func (b *exitBoard) add(x keeperproto.Exited) {
	failpoint.Hit("gantryd.keeper-exit")
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[x.Exit.Key] == x.Gen {
		return
	}
	b.seen[x.Exit.Key] = x.Gen
	b.queue = append(b.queue, x.Exit)
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *exitBoard) forget(key spec.ProcessKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.seen, key)
}

func (b *exitBoard) take() []spec.Exit {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue
	b.queue = nil
	return q
}

// Exits delivers every exit once, also those that happened before, until ctx ends.
// There is one consumer: what one call delivered, another does not.
func (b *exitBoard) Exits(ctx context.Context) <-chan spec.Exit {
	out := make(chan spec.Exit, 16)
	go func() {
		defer close(out)
		for {
			for _, x := range b.take() {
				select {
				case out <- x:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-b.wake:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}
