package containers

import (
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
)

func TestStatusText(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		st     State
		health container.HealthStatus
		want   string
	}{
		{State{Status: Running, Started: now.Add(-5 * time.Minute)}, container.Healthy, "Up 5 minutes (healthy)"},
		{State{Status: Running, Started: now.Add(-5 * time.Minute)}, container.Starting, "Up 5 minutes (health: starting)"},
		{State{Status: Running, Started: now.Add(-5 * time.Minute)}, container.NoHealthcheck, "Up 5 minutes"},
		{State{Status: Paused, Started: now.Add(-2 * time.Hour)}, "", "Up 2 hours (Paused)"},
		{State{Status: Exited, Finished: now.Add(-3 * time.Second), ExitCode: 137}, "", "Exited (137) 3 seconds ago"},
		{State{Status: Created}, "", "Created"},
	} {
		if got := statusText(&Container{State: c.st}, c.health, now); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
