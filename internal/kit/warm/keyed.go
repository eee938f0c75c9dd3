package warm

import "sync"

// Keyed keeps spare values of one kind out of many: the kind that was asked for first, and later the one
// that was asked for twice in a row. Kinds that alternate so do not make and drop each other's values.
type Keyed[K, T any] struct {
	same func(a, b K) bool
	open func(K) *Pool[T]

	mu       sync.Mutex
	pool     *Pool[T]
	key      K // of the pool
	last     K // that was asked for
	over     bool
	stopping sync.WaitGroup
}

// NewKeyed describes it: same compares kinds, open describes the pool of one.
func NewKeyed[K, T any](same func(a, b K) bool, open func(K) *Pool[T]) *Keyed[K, T] {
	return &Keyed[K, T]{same: same, open: open}
}

// Take gives a spare value of a kind, if there is one: else its taker makes its own.
func (k *Keyed[K, T]) Take(key K) (value T, ok bool) {
	if p := k.choose(key); p != nil {
		return p.spare()
	}
	return value, false
}

// Start begins with a kind before it is asked for.
func (k *Keyed[K, T]) Start(key K) { k.choose(key) }

// choose decides what is kept from now on, and gives the pool if that is what is asked for.
func (k *Keyed[K, T]) choose(key K) *Pool[T] {
	k.mu.Lock()
	defer k.mu.Unlock()
	again := k.pool == nil || k.same(k.last, key)
	k.last = key
	switch {
	case k.over:
		return nil
	case k.pool != nil && k.same(k.key, key):
		return k.pool
	case !again:
		return nil
	}
	if old := k.pool; old != nil {
		k.stopping.Go(old.Stop)
	}
	k.pool, k.key = k.open(key), key
	k.pool.Start()
	return k.pool
}

// Give offers a value of a kind, used before and as good as new, and tells whether it was taken.
func (k *Keyed[K, T]) Give(key K, value T) bool {
	k.mu.Lock()
	p := k.pool
	if k.over || p == nil || !k.same(k.key, key) {
		p = nil
	}
	k.mu.Unlock()
	return p != nil && p.give(value)
}

// Stop drops all values, for good.
func (k *Keyed[K, T]) Stop() {
	k.mu.Lock()
	k.over = true
	p := k.pool
	k.mu.Unlock()
	if p != nil {
		p.Stop()
	}
	k.stopping.Wait()
}
