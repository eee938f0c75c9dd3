package warm

import (
	"fmt"
	"sync"
	"testing"
)

// kinds makes values like "a1", and keeps in mind which are dropped.
type kinds struct {
	mu      sync.Mutex
	made    map[string]int
	dropped map[string]int
}

func (k *kinds) keyed() *Keyed[string, string] {
	return NewKeyed(func(a, b string) bool { return a == b }, func(kind string) *Pool[string] {
		return New(Size{Idle: 2, Limit: 2}, Maker[string]{
			Begin: func() func() (string, error) {
				return func() (string, error) {
					k.mu.Lock()
					defer k.mu.Unlock()
					k.made[kind]++
					return fmt.Sprint(kind, k.made[kind]), nil
				}
			},
			Drop: func(v string) {
				k.mu.Lock()
				defer k.mu.Unlock()
				k.dropped[v[:1]]++
			},
		})
	})
}

func (k *kinds) count(m map[string]int, kind string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return m[kind]
}

func TestKeyed(t *testing.T) {
	k := &kinds{made: map[string]int{}, dropped: map[string]int{}}
	pool := k.keyed()
	pool.Start("a")
	until(t, "the first kind is there", func() bool { return k.count(k.made, "a") == 2 })

	// Another kind, once at a time, changes nothing.
	for range 3 {
		if v, ok := pool.Take("b"); ok {
			t.Fatalf("%q was there before anybody asked for its kind", v)
		}
		v, ok := pool.Take("a")
		if !ok || v[0] != 'a' {
			t.Fatalf("a spare of kind a is %q, %v", v, ok)
		}
		if !pool.Give("a", v) {
			t.Error("there was room for a value that is as good as new")
		}
	}
	if n := k.count(k.made, "b"); n != 0 || k.count(k.dropped, "a") != 0 {
		t.Errorf("kinds that alternate made %d of b and dropped %d of a", n, k.count(k.dropped, "a"))
	}

	// Twice in a row, and it is what is kept.
	for range 2 {
		if v, ok := pool.Take("b"); ok && v[0] != 'b' {
			t.Fatalf("a spare of kind b is %q", v)
		}
	}
	until(t, "the second kind is there", func() bool { return k.count(k.made, "b") >= 2 })
	until(t, "the first kind is dropped", func() bool { return k.count(k.dropped, "a") >= 2 })
	if pool.Give("a", "a9") {
		t.Error("a value of a kind that is not kept was taken")
	}

	pool.Stop()
	made, dropped := k.count(k.made, "b"), k.count(k.dropped, "b")
	if _, ok := pool.Take("b"); ok || pool.Give("b", "b9") || k.count(k.made, "b") != made || dropped == 0 {
		t.Errorf("after its end: taken %v, made %d and then %d, dropped %d", ok, made, k.count(k.made, "b"), dropped)
	}
}
