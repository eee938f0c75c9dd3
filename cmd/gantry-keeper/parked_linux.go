package main

import (
	"os"
	"sync"
	"time"

	"github.com/gantry-engine/gantry/runtime/spawn"
)

const (
	// parkedBusy is how many parked inits wait while containers are being started, parkedIdle when
	// none was for calmAfter: one costs about a megabyte.
	parkedBusy = 6
	parkedIdle = 1
	parkedLow  = 1
	calmAfter  = 30 * time.Second
	// settleAfter is how long new ones wait for the start in hand to be over, unless few are left.
	settleAfter = 10 * time.Millisecond
)

// parking keeps gantry-inits that were started ahead of time. What the last launch needed
// is what the next one most likely needs; another launch clones its own.
type parking struct {
	init, null *os.File

	mu         sync.Mutex
	waiting    []*spawn.Parked
	namespaces uint64 // of those that wait
	filling    bool
	closed     bool
	calm       *time.Timer
	want       int
}

// take gives a parked init with these namespaces, or nil.
func (k *parking) take(namespaces uint64) *spawn.Parked {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.namespaces != namespaces {
		k.namespaces = namespaces
		k.drop(0)
		return nil
	}
	for len(k.waiting) > 0 {
		p := k.waiting[0]
		k.waiting = k.waiting[1:]
		if p.Alive() {
			return p
		}
		p.Discard()
	}
	return nil
}

// refill parks others in the background, after a launch.
func (k *parking) refill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.want = parkedBusy
	if k.calm == nil {
		k.calm = time.AfterFunc(calmAfter, k.rest)
	} else {
		k.calm.Reset(calmAfter)
	}
	if !k.filling && !k.closed && k.namespaces != 0 && len(k.waiting) < k.want {
		k.filling = true
		if len(k.waiting) > parkedLow {
			time.AfterFunc(settleAfter, k.fill)
		} else {
			go k.fill()
		}
	}
}

func (k *parking) fill() {
	for {
		k.mu.Lock()
		if k.closed || len(k.waiting) >= k.want {
			k.filling = false
			k.mu.Unlock()
			return
		}
		ns := k.namespaces
		k.mu.Unlock()
		p, err := spawn.Park(k.init, k.null, ns)
		k.mu.Lock()
		switch {
		case err != nil: // the next launch clones its own, and says what is wrong
			k.filling = false
			k.mu.Unlock()
			return
		case k.closed || k.namespaces != ns:
			p.Discard()
		default:
			k.waiting = append(k.waiting, p)
		}
		k.mu.Unlock()
	}
}

// rest is called when no container was started for a while.
func (k *parking) rest() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.want = parkedIdle
	k.drop(parkedIdle)
}

// drop ends all but keep of those that wait. k.mu is held.
func (k *parking) drop(keep int) {
	for len(k.waiting) > keep {
		k.waiting[0].Discard()
		k.waiting = k.waiting[1:]
	}
}

// close ends them all, and parks no more.
func (k *parking) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	k.drop(0)
}
