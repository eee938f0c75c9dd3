package warm

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

// numbers makes 1, 2, 3 and so on, and records what is dropped.
type numbers struct {
	mu      sync.Mutex
	last    int
	made    int
	dropped []int
	fail    bool
	gate    chan struct{} // if not nil, each value waits for it
}

func (n *numbers) maker() Maker[int] {
	return Maker[int]{
		Begin: func() func() (int, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.last++
			mine, fail, gate := n.last, n.fail, n.gate
			return func() (int, error) {
				if gate != nil {
					<-gate
				}
				if fail {
					return 0, errors.New("cannot")
				}
				n.mu.Lock()
				defer n.mu.Unlock()
				n.made++
				return mine, nil
			}
		},
		Drop: func(v int) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.dropped = append(n.dropped, v)
		},
	}
}

func (n *numbers) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.made
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func take(t *testing.T, p *Pool[int], want int) {
	t.Helper()
	if v, err := p.Take(); err != nil || v != want {
		t.Fatalf("took %d, %v; want %d", v, err, want)
	}
}

func TestOrderHoldsWhileThePoolRefills(t *testing.T) {
	n := &numbers{}
	p := New(Size{Idle: 3, Limit: 6}, n.maker())
	take(t, p, 1) // before Start
	p.Start()
	for want := 2; want < 200; want++ {
		take(t, p, want)
	}
	p.Stop()
	if want := n.count() - 199; len(n.dropped) != want {
		t.Errorf("%d values were made, 199 taken, %d dropped", n.count(), len(n.dropped))
	}
	if !slices.IsSortedFunc(n.dropped, func(a, b int) int { return b - a }) {
		t.Errorf("dropped %v: the last must go first", n.dropped)
	}
	take(t, p, n.last+1) // after Stop
}

func TestATakerWaitsForTheValueThatIsBeingMade(t *testing.T) {
	n := &numbers{gate: make(chan struct{})}
	p := New(Size{Idle: 1, Limit: 1}, n.maker())
	p.Start()
	until(t, "the worker has begun", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.last == 1 })
	got := make(chan int)
	go func() { v, _ := p.Take(); got <- v }()
	until(t, "the taker has the slot", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.queue) == 0 })
	close(n.gate)
	if v := <-got; v != 1 {
		t.Errorf("took %d, want the first value", v)
	}
	p.Stop()
}

func TestGrowsUnderLoadAndShrinksWhenIdle(t *testing.T) {
	n := &numbers{}
	p := New(Size{Idle: 2, Limit: 8}, n.maker())
	p.idle = 50 * time.Millisecond
	size := func() int { p.mu.Lock(); defer p.mu.Unlock(); return len(p.queue) }
	p.mu.Lock()
	p.goal = 8 // as after takers found it empty
	p.mu.Unlock()
	p.Start()
	until(t, "it is full", func() bool { return n.count() >= 8 })
	until(t, "it has shrunk", func() bool { return size() == 2 })
	p.Stop()
	if want := []int{8, 7, 6, 5, 4, 3, 2, 1}; !slices.Equal(n.dropped, want) {
		t.Errorf("dropped %v, want %v", n.dropped, want)
	}

	cold := New(Size{Idle: 2, Limit: 8}, n.maker())
	for range 5 {
		if _, err := cold.Take(); err != nil {
			t.Fatal(err)
		}
	}
	if cold.goal != 8 {
		t.Errorf("the goal after five takers found nothing is %d, want the limit", cold.goal)
	}
}

func TestFailuresAreReportedAndPass(t *testing.T) {
	n := &numbers{fail: true}
	p := New(Size{Idle: 2, Limit: 2}, n.maker())
	p.Start()
	if _, err := p.Take(); err == nil {
		t.Error("a failing maker gave a value")
	}
	n.mu.Lock()
	n.fail = false
	n.mu.Unlock()
	until(t, "a value can be had again", func() bool { _, err := p.Take(); return err == nil })
	p.Stop()
}

func TestSwitchedOff(t *testing.T) {
	n := &numbers{}
	p := New(Size{Idle: 4}, n.maker())
	p.Start()
	take(t, p, 1)
	p.Stop()
	if n.made != 1 {
		t.Errorf("a pool that is switched off made %d values ahead", n.made-1)
	}
}
