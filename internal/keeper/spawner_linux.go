package keeper

import (
	"time"

	"github.com/gantry-engine/gantry/internal/keeperproto"
)

// Spawner makes processes. gantry-keeper's main fills it with the runtime; tests with a
// plain fork and exec.
type Spawner interface {
	// Spawn makes a process and returns when the user's program has been executed.
	// Errors that say where a launch failed are *spec.LaunchError.
	Spawn(SpawnRequest) (Spawned, error)
	// Close ends what the spawner holds ready. It is called before the keeper ends or is replaced.
	Close()
	// Ran tells of a live process that a former keeper's spawner made whether it has executed the
	// user's program; false when that cannot be told.
	Ran(pid int) bool
}

// SpawnRequest is a process to be made. Its descriptors stay the caller's.
type SpawnRequest struct {
	Launch keeperproto.Launch
	Files  []int // the launch message's descriptors, in order
	Joins  []int // one per Launch.Join: the namespaces, opened
	// Target is the container's init for an exec: PID and pidfd; 0 and -1 otherwise.
	Target, TargetPIDFD int

	// Stdin is the read end of the input pipe or -1 for /dev/null. Stdout and Stderr are open for
	// reading and writing. All three are -1 with a terminal.
	Stdin, Stdout, Stderr int

	// Created is called right after clone, before the process may go on. The
	// pidfd is the callee's from then on. When it fails, the process must be made to end.
	Created func(pid, pidfd int) error
	// Terminal takes the master side, before the user's program runs.
	Terminal func(master int) error
}

// Spawned is a process that runs.
type Spawned struct {
	Started time.Time
	MountNS int // a descriptor for the keeper to own, or -1
}
