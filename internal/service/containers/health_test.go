package containers

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
)

func TestNextHealth(t *testing.T) {
	h := &container.HealthConfig{Retries: 2, StartPeriod: time.Minute}
	cur := container.Health{Status: container.Starting}
	for i, step := range []struct {
		code   int
		age    time.Duration
		want   container.HealthStatus
		streak int
	}{
		{1, time.Second, container.Starting, 0}, // in the start period: does not count
		{0, 2 * time.Second, container.Healthy, 0},
		{1, 3 * time.Second, container.Healthy, 1}, // it was healthy once: the start period is over
		{1, 4 * time.Second, container.Unhealthy, 2},
		{1, 5 * time.Second, container.Unhealthy, 3},
		{0, 6 * time.Second, container.Healthy, 0},
	} {
		cur = nextHealth(cur, h, &container.HealthcheckResult{ExitCode: step.code}, step.age)
		if cur.Status != step.want || cur.FailingStreak != step.streak {
			t.Errorf("step %d: %s, streak %d; want %s, %d", i, cur.Status, cur.FailingStreak, step.want, step.streak)
		}
	}
	if len(cur.Log) != probeLog {
		t.Errorf("%d results are kept, want %d", len(cur.Log), probeLog)
	}
}

func TestProbeCommand(t *testing.T) {
	for _, c := range []struct{ test, shell, want []string }{
		{nil, nil, nil},
		{[]string{"NONE"}, nil, nil},
		{[]string{"CMD", "curl", "x"}, nil, []string{"curl", "x"}},
		{[]string{"CMD-SHELL", "true"}, nil, []string{"/bin/sh", "-c", "true"}},
		{[]string{"CMD-SHELL", "true"}, []string{"/bin/bash", "-c"}, []string{"/bin/bash", "-c", "true"}},
	} {
		rec := &Container{Config: &container.Config{Shell: c.shell, Healthcheck: &container.HealthConfig{Test: c.test}}}
		if d := cmp.Diff(c.want, probeCommand(rec)); d != "" {
			t.Errorf("%v (-want +got):\n%s", c.test, d)
		}
	}
}
