package containers

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

var states = []Status{Created, Running, Paused, Restarting, Removing, Exited, Dead}

// The table is complete, leads only to known states, and every refusal has a class and names the container.
func TestTableIsComplete(t *testing.T) {
	for _, s := range states {
		row, ok := table[s]
		if !ok {
			t.Fatalf("state %s has no row", s)
		}
		for ev := range numEvents {
			cell := row[ev]
			if (cell.to == "") == (cell.why == nil) {
				t.Errorf("%s × event %d: neither or both of a way and a refusal: %+v", s, ev, cell)
			}
			if cell.why != nil {
				err := cell.why.For("0123")
				if !errors.Is(err, cell.why.Class) || !strings.Contains(err.Error(), "0123") {
					t.Errorf("%s × event %d: refusal %q", s, ev, err)
				}
			}
		}
	}
	if len(table) != len(states) {
		t.Errorf("%d rows for %d states", len(table), len(states))
	}
	if _, why := Next("nowhere", EvStart); why == nil {
		t.Error("an unknown state allows a start")
	}
}

func TestNext(t *testing.T) {
	for _, c := range []struct {
		from  Status
		ev    Event
		to    Status
		class error
	}{
		{Created, EvStart, Running, nil},
		{Exited, EvStart, Running, nil},
		{Running, EvStart, Running, errdefs.ErrNotModified},
		{Restarting, EvStart, Restarting, errdefs.ErrNotModified},
		{Paused, EvStart, Paused, errdefs.ErrConflict},
		{Dead, EvStart, Dead, errdefs.ErrConflict},
		{Restarting, EvRestartDue, Running, nil},
		{Running, EvPause, Paused, nil},
		{Paused, EvPause, Paused, errdefs.ErrConflict},
		{Exited, EvPause, Exited, errdefs.ErrConflict},
		{Paused, EvUnpause, Running, nil},
		{Running, EvUnpause, Running, errdefs.ErrConflict},
		{Exited, EvStop, Exited, errdefs.ErrNotModified},
		{Exited, EvKill, Exited, errdefs.ErrConflict},
		{Paused, EvExec, Paused, errdefs.ErrConflict},
		{Running, EvExited, Exited, nil},
		{Paused, EvExited, Exited, nil},
		{Running, EvExitedAgain, Restarting, nil},
		{Restarting, EvRestartOff, Exited, nil},
		{Running, EvRemove, Running, errdefs.ErrConflict},
		{Exited, EvRemove, Removing, nil},
		{Dead, EvRemove, Removing, nil},
		{Removing, EvRemove, Removing, errdefs.ErrConflict},
		{Removing, EvRemoveFailed, Dead, nil},
		{Created, EvExited, Created, errdefs.ErrInternal},
	} {
		to, why := Next(c.from, c.ev)
		var class error
		if why != nil {
			class = why.Class
		}
		if to != c.to || class != c.class {
			t.Errorf("Next(%s, %d) = %s, %v; want %s, %v", c.from, c.ev, to, class, c.to, c.class)
		}
	}
}

// No event makes a process appear or vanish behind the table's back.
func TestOnlyFactsEndARun(t *testing.T) {
	for _, s := range states {
		for ev := range numEvents {
			to, why := Next(s, ev)
			if why != nil {
				continue
			}
			if s.Alive() && !to.Alive() && ev != EvExited && ev != EvExitedAgain {
				t.Errorf("%s × event %d ends the run without an exit", s, ev)
			}
			if !s.Alive() && to.Alive() && ev != EvStart && ev != EvRestartDue {
				t.Errorf("%s × event %d makes a run without a start", s, ev)
			}
		}
	}
}
