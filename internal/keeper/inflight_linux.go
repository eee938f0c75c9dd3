package keeper

import (
	"sync"
	"time"
)

// launchPatience bounds how long a list waits for another client's launches.
const launchPatience = 10 * time.Second

// inflight knows the launches under way. Any goroutine may ask.
type inflight struct {
	mu sync.Mutex
	by map[chan struct{}]*client // closed when the launch is over
}

// begin notes that a launch of c is under way, until the returned function is called.
func (f *inflight) begin(c *client) (done func()) {
	over := make(chan struct{})
	f.mu.Lock()
	f.by[over] = c
	f.mu.Unlock()
	return func() {
		f.mu.Lock()
		delete(f.by, over)
		f.mu.Unlock()
		close(over)
	}
}

// waitForOthers waits for what other clients launch. A gantryd that was killed while it launched
// has a successor, who asks what there is: the answer must tell of this process too.
func (f *inflight) waitForOthers(c *client) {
	f.mu.Lock()
	var others []chan struct{}
	for over, by := range f.by {
		if by != c {
			others = append(others, over)
		}
	}
	f.mu.Unlock()
	if len(others) == 0 {
		return
	}
	t := time.NewTimer(launchPatience)
	defer t.Stop()
	for _, over := range others {
		select {
		case <-over:
		case <-t.C:
			return
		}
	}
}
