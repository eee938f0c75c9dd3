package containers

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/testkit/apicheck"
)

// fakeMeter counts its readings up.
type fakeMeter struct {
	n   uint64
	err error
	v2  bool
}

func (m *fakeMeter) Read(context.Context, spec.Cgroup) (Usage, error) {
	m.n++
	return Usage{CPUTotal: m.n * 1000, CPUUser: 600, CPUSystem: 400, PerCPU: []uint64{m.n * 1000}, Memory: 5 << 20, MemoryMax: 6 << 20, MemoryLimit: 1 << 62,
		MemoryFailcnt: 7, MemoryStats: map[string]uint64{"cache": 1}, Pids: 3, PidsLimit: 9, OnlineCPUs: 2, V2: m.v2,
		BlkioBytes: []BlkioEntry{{Major: 8, Op: "read", Value: 512}}}, m.err
}

func TestMain(m *testing.M) {
	statsEvery = time.Millisecond
	os.Exit(m.Run())
}

func TestStats(t *testing.T) {
	s := newWorld(t).service()
	m := &fakeMeter{}
	s.core.Meters = m
	one, two, _ := fleet(t, s)
	var got []container.StatsResponse
	keep := func(r container.StatsResponse) error { got = append(got, r); return nil }
	if err := s.Stats(ctx, two, false, true, keep); err != nil || len(got) != 1 || m.n != 1 {
		t.Fatal(err, len(got), m.n)
	}
	r := got[0]
	if r.CPUStats.CPUUsage.TotalUsage != 1000 || r.CPUStats.CPUUsage.UsageInUsermode != 600 || r.CPUStats.CPUUsage.UsageInKernelmode != 400 || r.CPUStats.OnlineCPUs != 2 ||
		r.CPUStats.SystemUsage == 0 || r.MemoryStats.Usage != 5<<20 || r.MemoryStats.Failcnt != 7 || r.PidsStats.Current != 3 || r.BlkioStats.IoServiceBytesRecursive[0].Value != 512 {
		t.Errorf("%+v", r)
	}
	if r.MemoryStats.Limit == 0 || r.MemoryStats.Limit >= 1<<62 {
		t.Errorf("without a limit the host's memory is one: %d", r.MemoryStats.Limit)
	}
	if r.PreCPUStats.CPUUsage.TotalUsage != 0 || r.ID != two || r.Name != "/two" {
		t.Errorf("one shot has nothing before: %+v", r.PreCPUStats)
	}
	b, _ := json.Marshal(r)
	apicheck.Response(t, "GET", "/containers/{id}/stats", 200, b)

	// Without one-shot the first sample is the second's past.
	got = nil
	if err := s.Stats(ctx, two, false, false, keep); err != nil || len(got) != 1 || got[0].PreCPUStats.CPUUsage.TotalUsage != 2000 || got[0].CPUStats.CPUUsage.TotalUsage != 3000 {
		t.Errorf("%v %+v", err, got)
	}
	// A stream goes on until its reader has enough.
	got = nil
	enough := errors.New("enough")
	err := s.Stats(ctx, two, true, false, func(r container.StatsResponse) error {
		got = append(got, r)
		if len(got) == 2 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || got[0].PreCPUStats.CPUUsage.TotalUsage != 0 || got[1].PreCPUStats.CPUUsage.TotalUsage != got[0].CPUStats.CPUUsage.TotalUsage {
		t.Errorf("%v %+v", err, got)
	}
	// One that does not run has zeros, at once, and a cgroup that went away meanwhile is no error.
	n := m.n
	got = nil
	if err := s.Stats(ctx, one, false, false, keep); err != nil || m.n != n || got[0].MemoryStats.Usage != 0 || got[0].ID != one {
		t.Errorf("%v %+v", err, got)
	}
	m.err, got = errdefs.ErrNotFound, nil
	if err := s.Stats(ctx, two, false, true, keep); err != nil || got[0].CPUStats.CPUUsage.TotalUsage != 0 {
		t.Errorf("ended meanwhile: %v", err)
	}
	m.err = errors.New("broken")
	if err := s.Stats(ctx, two, false, true, keep); err == nil {
		t.Error("a meter's failure is lost")
	}
	m.err, m.v2, got = nil, true, nil
	if err := s.Stats(ctx, two, false, true, keep); err != nil || got[0].MemoryStats.MaxUsage != 0 || got[0].MemoryStats.Failcnt != 0 {
		t.Errorf("v2 has no such counters: %+v", got)
	}
	if err := s.Stats(ctx, "nosuch", false, true, keep); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}

func TestStatsStreamEndsWithTheContainer(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	s.core.Meters = &fakeMeter{}
	one, _, _ := fleet(t, s)
	first, ended := make(chan bool, 1), make(chan error, 1)
	go func() {
		ended <- s.Stats(ctx, one, true, false, func(container.StatsResponse) error {
			select {
			case first <- true:
			default:
			}
			return nil
		})
	}()
	<-first
	if err := s.Remove(ctx, one, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// ownCgroup is a cgroup with this very test in it.
type ownCgroup struct{ fakeCgroups }

func (ownCgroup) Pids(context.Context, spec.Cgroup) ([]int, error) {
	return []int{os.Getpid(), 1 << 22}, nil // the second does not exist
}

func TestTop(t *testing.T) {
	w := newWorld(t)
	s := w.service()
	s.core.Cgroups = ownCgroup{fakeCgroups{w}}
	one, two, _ := fleet(t, s)
	for _, args := range []string{"", "-ef", "-o pid,args", "-eo user,pid,comm", "-o pid=PID", "-o  args,pid", "axf"} {
		top, err := s.Top(ctx, two, args)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		if len(top.Processes) != 1 || len(top.Processes[0]) != len(top.Titles) {
			t.Fatalf("%q: %+v", args, top)
		}
		found := false
		for i, title := range top.Titles {
			found = found || title == "PID" && top.Processes[0][i] == strconv.Itoa(os.Getpid())
		}
		if !found {
			t.Errorf("%q: %+v", args, top)
		}
		b, _ := json.Marshal(top)
		apicheck.Response(t, "GET", "/containers/{id}/top", 200, b)
	}
	// The API knows 404 and 500 for this endpoint; ps's own refusals are the latter, as in dockerd.
	for bad, text := range map[string]string{
		"-o pid=xx":      "Couldn't find PID field in ps output",
		"-o comm":        "Couldn't find PID field in ps output",
		"-o sid=PID":     `specifying "sid=PID" is not allowed`,
		"-osid=PID,args": `specifying "-osid=PID,args" is not allowed`,
		"--nosuchoption": "ps: error: unknown gnu long option",
	} {
		if _, err := s.Top(ctx, two, bad); !errdefs.IsInternal(err) || err.Error() != text {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := s.Top(ctx, one, ""); !errdefs.IsConflict(err) {
		t.Errorf("of a stopped one: %v", err)
	}
	if a := w.actions(); a[len(a)-1] != string(events.ActionTop) {
		t.Errorf("events %v", a)
	}
}
