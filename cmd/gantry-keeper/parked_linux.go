package main

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime/spawn"
)

const (
	// parkedKept is how many parked inits wait; one costs a megabyte.
	parkedKept = 4
	// With more than parkedLow left new ones wait until no start was asked for settleAfter.
	parkedLow   = 1
	settleAfter = 10 * time.Millisecond
	// usual are the namespaces of an ordinary container, whose network namespace comes from elsewhere.
	usual = unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
)

// parking keeps gantry-inits that were started ahead of time. What the last launch needed
// is what the next one most likely needs; another launch clones its own.
type parking struct {
	init, null *os.File
	label      string // the exec root: whose the parked are

	mu         sync.Mutex
	waiting    []*spawn.Parked
	namespaces uint64 // of those that wait
	filling    bool
	closed     bool
	settle     *time.Timer
}

func newParking(init, null *os.File, label string) *parking {
	k := &parking{init: init, null: null, label: label, namespaces: usual}
	k.settle = time.AfterFunc(settleAfter, k.fill)
	return k
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
	if len(k.waiting) > parkedLow {
		k.settle.Reset(settleAfter)
		return
	}
	go k.fill()
}

// fill parks inits until there are enough. One fills at a time.
func (k *parking) fill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.filling {
		return
	}
	k.filling = true
	defer func() { k.filling = false }()
	for !k.closed && len(k.waiting) < parkedKept {
		ns := k.namespaces
		k.mu.Unlock()
		p, err := spawn.Park(k.init, k.null, ns, k.label)
		k.mu.Lock()
		switch {
		case err != nil: // the next launch clones its own, and says what is wrong
			return
		case k.closed || k.namespaces != ns:
			p.Discard()
		default:
			k.waiting = append(k.waiting, p)
		}
	}
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
	k.settle.Stop()
	k.drop(0)
}
