// Package keylock gives a lock per key, so that work on one object never waits
// for work on another.
package keylock

import (
	"context"
	"sync"
)

// Locker hands out locks by key. Its zero value is ready to use.
type Locker struct {
	mu    sync.Mutex
	locks map[string]*lock
}

type lock struct {
	held    chan struct{} // holds one token while locked
	waiters int
}

// Lock waits for key's lock, or for ctx to end. The returned function unlocks;
// calling it again does nothing.
func (l *Locker) Lock(ctx context.Context, key string) (unlock func(), err error) {
	l.mu.Lock()
	if l.locks == nil {
		l.locks = make(map[string]*lock)
	}
	k := l.locks[key]
	if k == nil {
		k = &lock{held: make(chan struct{}, 1)}
		l.locks[key] = k
	}
	k.waiters++
	l.mu.Unlock()

	select {
	case k.held <- struct{}{}:
		return sync.OnceFunc(func() { <-k.held; l.leave(key, k) }), nil
	default:
	}
	select {
	case k.held <- struct{}{}:
		return sync.OnceFunc(func() { <-k.held; l.leave(key, k) }), nil
	case <-ctx.Done():
		l.leave(key, k)
		return nil, context.Cause(ctx)
	}
}

func (l *Locker) leave(key string, k *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.waiters--; k.waiters == 0 {
		delete(l.locks, key)
	}
}
