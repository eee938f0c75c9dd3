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

func TestProcParsers(t *testing.T) {
	st, ok := parseStat("7 (a) b) S 3 7 7 34817 7 0 0 0 0 0 150 50 0 0 20 0 1 0 1000 0 0")
	if !ok || st.comm != "a) b" || st.ppid != 3 || st.cpu != 2*time.Second || st.start != 10*time.Second || ttyName(st.tty) != "pts/1" {
		t.Errorf("%+v %v", st, ok)
	}
	if n := parseSystemCPU([]byte("cpu  1 2 3 4 5 6 7 99 100 0\ncpu0 1")); n != 28*uint64(time.Second/ticks) {
		t.Errorf("system time %d", n)
	}
	nets := parseNetDev([]byte("h\nh\n lo: 1 1 1 1 1 1 1 1 1 1 1 1\n eth0: 10 2 0 1 0 0 0 0 20 3 0 4 0 0 0 0\n"))
	if len(nets) != 1 || nets["eth0"].RxBytes != 10 || nets["eth0"].TxBytes != 20 || nets["eth0"].TxDropped != 4 {
		t.Errorf("%+v", nets)
	}
}
