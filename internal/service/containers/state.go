package containers

import (
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// Status is a container's place in its life. The texts are the API's.
type Status string

// The places in a container's life.
const (
	Created    Status = Status(container.StateCreated)
	Running    Status = Status(container.StateRunning)
	Paused     Status = Status(container.StatePaused)
	Restarting Status = Status(container.StateRestarting)
	Removing   Status = Status(container.StateRemoving)
	Exited     Status = Status(container.StateExited)
	Dead       Status = Status(container.StateDead)
)

// Running tells whether Docker calls the state running: a paused container and
// one that waits for its restart count as running.
func (s Status) Running() bool { return s == Running || s == Paused || s == Restarting }

// Alive tells whether there is a process.
func (s Status) Alive() bool { return s == Running || s == Paused }

// Event is what can happen to a container.
type Event uint8

// The events of a container's life: requests of users, and facts.
const (
	EvStart        Event = iota // request to start
	EvRestartDue                // the restart policy's time has come
	EvPause                     // request
	EvUnpause                   // request
	EvStop                      // request to stop: allowed if there is something to stop
	EvKill                      // request to send a signal
	EvExec                      // request to run a further process
	EvResize                    // request to resize the terminal
	EvUpdate                    // request to change limits
	EvExited                    // the process ended and stays ended
	EvExitedAgain               // the process ended and the restart policy wants another run
	EvRestartOff                // a pending restart was called off
	EvRemove                    // request to remove what does not run
	EvRemoveForce               // request to remove in any case
	EvRemoveFailed              // removal got stuck half-way
	numEvents
)

// Refusal is an event that does not fit the state: a class and Docker's text,
// in which %s stands for the container's ID.
type Refusal struct {
	Class error
	Text  string
}

// For makes the error for a container.
func (r *Refusal) For(id string) error { return classed.Errorf(r.Class, r.Text, id) }

var (
	alreadyRunning   = &Refusal{errdefs.ErrNotModified, "container %s is already started"}
	alreadyStopped   = &Refusal{errdefs.ErrNotModified, "container %s is already stopped"}
	startPaused      = &Refusal{errdefs.ErrConflict, "cannot start a paused container, try unpause instead (%s)"}
	startMarked      = &Refusal{errdefs.ErrConflict, "container %s is marked for removal and cannot be started"}
	notRunning       = &Refusal{errdefs.ErrConflict, "container %s is not running"}
	isRestarting     = &Refusal{errdefs.ErrConflict, "Container %s is restarting, wait until the container is running"}
	alreadyPaused    = &Refusal{errdefs.ErrConflict, "Container %s is already paused"}
	notPaused        = &Refusal{errdefs.ErrConflict, "Container %s is not paused"}
	execPaused       = &Refusal{errdefs.ErrConflict, "Container %s is paused, unpause the container before exec"}
	updateMarked     = &Refusal{errdefs.ErrConflict, "container %s is marked for removal and cannot be \"update\""}
	alreadyRemoving  = &Refusal{errdefs.ErrConflict, "removal of container %s is already in progress"}
	removeRunning    = &Refusal{errdefs.ErrConflict, "cannot remove container %q: container is running: stop the container before removing or force remove"}
	removePaused     = &Refusal{errdefs.ErrConflict, "cannot remove container %q: container is paused and must be unpaused first"}
	removeRestarting = &Refusal{errdefs.ErrConflict, "cannot remove container %q: container is restarting: stop the container before removing or force remove"}
	impossible       = &Refusal{errdefs.ErrInternal, "container %s: an event came that does not fit its state"}
)

// outcome is one cell of the table: where to, or why not.
type outcome struct {
	to  Status
	why *Refusal
}

func to(s Status) outcome   { return outcome{to: s} }
func no(r *Refusal) outcome { return outcome{why: r} }

// table is the whole life of a container: one row per state, one cell per event.
var table = map[Status][numEvents]outcome{
	Created: {
		EvStart: to(Running), EvRestartDue: no(impossible),
		EvPause: no(notRunning), EvUnpause: no(notPaused), EvStop: no(alreadyStopped), EvKill: no(notRunning),
		EvExec: no(notRunning), EvResize: no(notRunning), EvUpdate: to(Created),
		EvExited: no(impossible), EvExitedAgain: no(impossible), EvRestartOff: no(impossible),
		EvRemove: to(Removing), EvRemoveForce: to(Removing), EvRemoveFailed: no(impossible),
	},
	Running: {
		EvStart: no(alreadyRunning), EvRestartDue: no(impossible),
		EvPause: to(Paused), EvUnpause: no(notPaused), EvStop: to(Running), EvKill: to(Running),
		EvExec: to(Running), EvResize: to(Running), EvUpdate: to(Running),
		EvExited: to(Exited), EvExitedAgain: to(Restarting), EvRestartOff: no(impossible),
		EvRemove: no(removeRunning), EvRemoveForce: to(Running), EvRemoveFailed: no(impossible),
	},
	Paused: {
		EvStart: no(startPaused), EvRestartDue: no(impossible),
		EvPause: no(alreadyPaused), EvUnpause: to(Running), EvStop: to(Paused), EvKill: to(Paused),
		EvExec: no(execPaused), EvResize: to(Paused), EvUpdate: to(Paused),
		EvExited: to(Exited), EvExitedAgain: to(Restarting), EvRestartOff: no(impossible),
		EvRemove: no(removePaused), EvRemoveForce: to(Paused), EvRemoveFailed: no(impossible),
	},
	Restarting: {
		EvStart: no(alreadyRunning), EvRestartDue: to(Running),
		EvPause: no(isRestarting), EvUnpause: no(notPaused), EvStop: to(Restarting), EvKill: no(isRestarting),
		EvExec: no(isRestarting), EvResize: no(isRestarting), EvUpdate: to(Restarting),
		EvExited: to(Exited), EvExitedAgain: to(Restarting), EvRestartOff: to(Exited),
		EvRemove: no(removeRestarting), EvRemoveForce: to(Restarting), EvRemoveFailed: no(impossible),
	},
	Removing: {
		EvStart: no(startMarked), EvRestartDue: no(startMarked),
		EvPause: no(notRunning), EvUnpause: no(notPaused), EvStop: no(alreadyStopped), EvKill: no(notRunning),
		EvExec: no(notRunning), EvResize: no(notRunning), EvUpdate: no(updateMarked),
		EvExited: to(Removing), EvExitedAgain: to(Removing), EvRestartOff: to(Removing),
		EvRemove: no(alreadyRemoving), EvRemoveForce: no(alreadyRemoving), EvRemoveFailed: to(Dead),
	},
	Exited: {
		EvStart: to(Running), EvRestartDue: no(impossible),
		EvPause: no(notRunning), EvUnpause: no(notPaused), EvStop: no(alreadyStopped), EvKill: no(notRunning),
		EvExec: no(notRunning), EvResize: no(notRunning), EvUpdate: to(Exited),
		EvExited: no(impossible), EvExitedAgain: no(impossible), EvRestartOff: no(impossible),
		EvRemove: to(Removing), EvRemoveForce: to(Removing), EvRemoveFailed: no(impossible),
	},
	Dead: {
		EvStart: no(startMarked), EvRestartDue: no(startMarked),
		EvPause: no(notRunning), EvUnpause: no(notPaused), EvStop: no(alreadyStopped), EvKill: no(notRunning),
		EvExec: no(notRunning), EvResize: no(notRunning), EvUpdate: no(updateMarked),
		EvExited: to(Dead), EvExitedAgain: to(Dead), EvRestartOff: to(Dead),
		EvRemove: to(Removing), EvRemoveForce: to(Removing), EvRemoveFailed: no(impossible),
	},
}

// Next is the life of a container: where an event leads from a state, or why it
// does not fit. Where the answer is the state itself, the event is allowed and
// changes nothing (a forced removal of a running container first has to end it).
func Next(s Status, ev Event) (Status, *Refusal) {
	row, known := table[s]
	if !known || ev >= numEvents {
		return s, impossible
	}
	if o := row[ev]; o.why != nil {
		return s, o.why
	} else {
		return o.to, nil
	}
}

// may tells whether the event fits the record's state, as an error for users.
func (c *Container) may(ev Event) error {
	if _, why := Next(c.State.Status, ev); why != nil {
		return why.For(c.ID)
	}
	return nil
}

// moved gives the record the state that ev leads to. The caller asked may before;
// an event that does not fit leaves the state alone.
func (c *Container) moved(ev Event) {
	c.State.Status, _ = Next(c.State.Status, ev)
}
