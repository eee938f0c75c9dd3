// Package flows makes the kernel forget what it tracks of addresses whose container has ended. What it remembers counts as an
// established connection: the next container with the address would be reached by it past the rules, and would reach others.
package flows

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// gather is how long addresses are gathered before the kernel's table is read: that costs the same for many as for one.
const gather = 10 * time.Millisecond

// Forgetter forgets in the background. Its zero value is ready to use.
type Forgetter struct {
	mu      sync.Mutex
	waiting map[netip.Addr]bool
	working bool
	closed  bool
	work    sync.WaitGroup
}

// Forget has what is tracked of addresses forgotten soon; invalid ones are none.
func (f *Forgetter) Forget(addrs ...netip.Addr) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range addrs {
		if a.IsValid() && !f.closed {
			if f.waiting == nil {
				f.waiting = map[netip.Addr]bool{}
			}
			f.waiting[a] = true
		}
	}
	if len(f.waiting) > 0 && !f.working {
		f.working = true
		f.work.Go(f.run)
	}
}

func (f *Forgetter) run() {
	for {
		time.Sleep(gather)
		f.mu.Lock()
		now := f.waiting
		f.waiting = nil
		if len(now) == 0 {
			f.working = false
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
		if err := netlink.ForgetAddresses(now); err != nil {
			slog.Debug("tracked flows of ended containers could not be dropped", "error", err)
		}
	}
}

// Close waits for what is under way.
func (f *Forgetter) Close() {
	if f == nil {
		return
	}
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.work.Wait()
}
