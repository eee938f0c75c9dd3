package main

import (
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// forks makes processes all the time, each of which lives a moment.
const forks = "sh -c 'while :; do sleep 0.02 & sleep 0.01; done' & sleep 1000"

// TestKillAll reaches processes that have no PID namespace of their own to die with.
func TestKillAll(t *testing.T) {
	b := newBox(t, "sh", "-c", forks)
	b.without(specs.PIDNamespace)
	id := name(t)
	b.up(id)
	time.Sleep(100 * time.Millisecond)
	b.must("kill", "--all", id, "KILL")
	end := time.Now().Add(5 * time.Second)
	for len(strings.Fields(b.must("ps", "-f", "json", id))) > 0 && strings.TrimSpace(b.must("ps", "-f", "json", id)) != "null" && strings.TrimSpace(b.must("ps", "-f", "json", id)) != "[]" {
		if time.Now().After(end) {
			t.Fatalf("alive after kill --all: %s", b.must("ps", "-f", "json", id))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s := b.status(id); s.Status != specs.StateStopped {
		t.Errorf("%+v", s)
	}
	b.must("kill", "--all", id, "KILL") // of a stopped container it is what callers clean up with
	b.must("delete", id)
}

// TestDeleteEndsAllProcesses: none of the processes in the cgroup outlives its container.
func TestDeleteEndsAllProcesses(t *testing.T) {
	for _, pause := range []bool{false, true} {
		b := newBox(t, "sh", "-c", forks)
		b.without(specs.PIDNamespace)
		id := name(t)
		b.up(id)
		time.Sleep(50 * time.Millisecond)
		if pause {
			b.must("pause", id)
		}
		b.must("delete", "--force", id)
		b.nothingLeft()
	}
}

func TestPauseAndResume(t *testing.T) {
	b := newBox(t, "sleep", "1000")
	id := name(t)
	b.up(id)
	b.must("pause", id)
	if out, code := b.run("pause", id); code != 1 || !strings.Contains(out, "paused") {
		t.Errorf("pause of a paused container: code %d, %q", code, out)
	}
	b.must("kill", id, "KILL") // waits until it is resumed
	if s := b.status(id); s.Status != statePaused {
		t.Errorf("%+v", s)
	}
	b.must("resume", id)
	for end := time.Now().Add(5 * time.Second); b.status(id).Status != specs.StateStopped; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it lives on")
		}
	}
	if out, code := b.run("resume", id); code != 1 || !strings.Contains(out, "stopped") {
		t.Errorf("resume of a stopped container: code %d, %q", code, out)
	}
}
