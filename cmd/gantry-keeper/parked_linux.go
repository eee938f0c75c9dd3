package main

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/kit/warm"
	"github.com/gantry-engine/gantry/runtime/spawn"
)

// usual are the namespaces of an ordinary container, whose network namespace comes from elsewhere.
const usual = unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// parkedSize is how many parked inits wait; one costs a megabyte.
var parkedSize = warm.Size{Idle: 4, Limit: 4}

// parkAfter is how long after its start the keeper parks the first: whoever started it wants an answer.
const parkAfter = 10 * time.Millisecond

// parking keeps gantry-inits that were started ahead of time, by their namespaces.
type parking struct {
	kept *warm.Keyed[uint64, *spawn.Parked]
}

func newParking(parker *spawn.Parker) *parking {
	k := &parking{kept: warm.NewKeyed(func(a, b uint64) bool { return a == b }, func(namespaces uint64) *warm.Pool[*spawn.Parked] {
		return warm.New(parkedSize, warm.Maker[*spawn.Parked]{
			Begin: func() func() (*spawn.Parked, error) {
				return func() (*spawn.Parked, error) { return parker.Park(namespaces) }
			},
			Drop: (*spawn.Parked).Discard,
		})
	})}
	time.AfterFunc(parkAfter, func() { k.kept.Start(usual) })
	return k
}

// take gives a parked init with these namespaces, or nil: then the launch clones its own.
func (k *parking) take(namespaces uint64) *spawn.Parked {
	for {
		p, ok := k.kept.Take(namespaces)
		if !ok {
			return nil
		}
		if p.Alive() {
			return p
		}
		p.Discard()
	}
}
