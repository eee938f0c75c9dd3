package keylock

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

func TestExcludesPerKeyOnly(t *testing.T) {
	var l Locker
	ctx := context.Background()
	a, err := l.Lock(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Lock(ctx, "b") // another key never waits
	if err != nil {
		t.Fatal(err)
	}
	b()
	short, cancel := context.WithTimeoutCause(ctx, 10*time.Millisecond, errors.New("gave up"))
	defer cancel()
	if _, err := l.Lock(short, "a"); err == nil || err.Error() != "gave up" {
		t.Fatalf("waiting for a held lock: %v, want the context's cause", err)
	}
	a()
	a() // a second unlock does nothing
	if len(l.locks) != 0 {
		t.Fatalf("%d locks left behind", len(l.locks))
	}
}

func TestCounts(t *testing.T) {
	var l Locker
	var wg sync.WaitGroup
	n := 0
	for range 100 {
		wg.Go(func() {
			unlock, err := l.Lock(context.Background(), "k")
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			n++
		})
	}
	wg.Wait()
	if n != 100 {
		t.Fatalf("%d increments, want 100", n)
	}
}
