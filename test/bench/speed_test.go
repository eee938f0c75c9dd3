package main

import (
	"testing"
	"time"
)

func TestBarsFollowTheMachine(t *testing.T) {
	for _, c := range []struct {
		bar, want string
		floor     time.Duration
	}{
		{"≤ 15 / ≤ 35 ms", "≤ 15 / ≤ 35 ms (30 / 70 at this speed)", 2 * referenceFloor},
		{"≤ 10 ms", "≤ 10 ms (15 at this speed)", referenceFloor * 3 / 2},
		{"≥ 200 MB/s", "≥ 200 MB/s (100 at this speed)", 2 * referenceFloor},
		{"≥ 20 / ≥ 200 MB/s", "≥ 20 / ≥ 200 MB/s (10 / 100 at this speed)", 2 * referenceFloor},
		{"≥ 80 a second", "≥ 80 a second (40 at this speed)", 2 * referenceFloor},
		{"≤ 10 ms", "≤ 10 ms", referenceFloor - 1}, // a faster machine gets no stricter bar
		{"≤ 2× floor", "≤ 2× floor", 2 * referenceFloor},
		{"≤ 40 MB", "≤ 40 MB", 2 * referenceFloor},
		{"≤ 0.1 MB", "≤ 0.1 MB", 2 * referenceFloor},
		{"reported", "reported", 2 * referenceFloor},
	} {
		if got := scaled(c.bar, c.floor); got != c.want {
			t.Errorf("%s at %v: %q, want %q", c.bar, c.floor, got, c.want)
		}
	}
}
