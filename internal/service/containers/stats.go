package containers

import (
	"context"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/service/containers/procfs"
)

// statsEvery is the time between two samples of a stream; tests do not wait that long.
var statsEvery = time.Second

// Stats samples a container and hands each sample to emit until that fails, ctx
// ends or the container is gone. Without stream there is one sample: with oneShot
// at once, else with the previous second in it.
func (c *querier) Stats(ctx context.Context, ref string, streaming, oneShot bool, emit func(container.StatsResponse) error) error {
	e, err := c.reg.get(ref)
	if err != nil {
		return err
	}
	var before container.StatsResponse
	if !streaming && oneShot {
		now, err := c.sample(ctx, e)
		if err != nil {
			return err
		}
		return emit(now)
	}
	if !streaming && e.snapshot().State.Status.Alive() {
		if before, err = c.sample(ctx, e); err != nil {
			return err
		}
		if err := pause(ctx, statsEvery); err != nil {
			return err
		}
	}
	for {
		now, err := c.sample(ctx, e)
		if err != nil {
			return err
		}
		now.PreRead, now.PreCPUStats = before.Read, before.CPUStats
		if err := emit(now); err != nil || !streaming {
			return err
		}
		before = now
		t := time.NewTimer(statsEvery)
		select {
		case <-t.C:
		case <-e.removed:
			t.Stop()
			return nil
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sample reads the counters; those of a container that does not run are zero.
func (c *querier) sample(ctx context.Context, e *entry) (container.StatsResponse, error) {
	rec := e.snapshot()
	out := container.StatsResponse{ID: rec.ID, Name: "/" + rec.Name, OSType: "linux"}
	if !rec.State.Status.Alive() {
		return out, nil
	}
	u, err := c.Meters.Read(ctx, rec.Cgroup)
	if err != nil {
		if errdefs.IsNotFound(err) || !e.snapshot().State.Status.Alive() { // it ended meanwhile
			return out, nil
		}
		return out, err
	}
	fillStats(&out, u)
	out.CPUStats.SystemUsage = procfs.SystemCPU()
	if bridged(rec) {
		out.Networks = procfs.Interfaces(rec.State.Pid)
	}
	return out, nil
}

func fillStats(out *container.StatsResponse, u Usage) {
	out.Read = u.Read
	out.CPUStats = container.CPUStats{
		CPUUsage:       container.CPUUsage{TotalUsage: u.CPUTotal, PercpuUsage: u.PerCPU, UsageInKernelmode: u.CPUSystem, UsageInUsermode: u.CPUUser},
		OnlineCPUs:     uint32(u.OnlineCPUs),
		ThrottlingData: container.ThrottlingData{Periods: u.Periods, ThrottledPeriods: u.ThrottledPeriods, ThrottledTime: u.ThrottledTime},
	}
	out.MemoryStats = container.MemoryStats{Usage: u.Memory, MaxUsage: u.MemoryMax, Limit: u.MemoryLimit, Failcnt: u.MemoryFailcnt, Stats: u.MemoryStats}
	if total := procfs.Memory(); total > 0 && (u.MemoryLimit == 0 || u.MemoryLimit > total) {
		out.MemoryStats.Limit = total
	}
	if u.V2 { // v2 has no such counters: old ones would mislead
		out.MemoryStats.MaxUsage, out.MemoryStats.Failcnt = 0, 0
	}
	out.PidsStats = container.PidsStats{Current: u.Pids, Limit: u.PidsLimit}
	out.BlkioStats = container.BlkioStats{
		IoServiceBytesRecursive: blkio(u.BlkioBytes), IoServicedRecursive: blkio(u.BlkioOps),
		IoQueuedRecursive: blkio(u.BlkioQueued), IoServiceTimeRecursive: blkio(u.BlkioService),
	}
}

func blkio(in []BlkioEntry) []container.BlkioStatEntry {
	var out []container.BlkioStatEntry
	for _, b := range in {
		out = append(out, container.BlkioStatEntry{Major: b.Major, Minor: b.Minor, Op: b.Op, Value: b.Value})
	}
	return out
}
