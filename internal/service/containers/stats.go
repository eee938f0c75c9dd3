package containers

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
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
	out.CPUStats.SystemUsage = systemCPU()
	if bridged(rec) {
		b, _ := os.ReadFile("/proc/" + strconv.Itoa(rec.State.Pid) + "/net/dev")
		out.Networks = parseNetDev(b)
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
	if total := hostMemory(); total > 0 && (u.MemoryLimit == 0 || u.MemoryLimit > total) {
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

// systemCPU is the time all of the host's processors spent, idle included, in nanoseconds.
func systemCPU() uint64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return parseSystemCPU(b)
}

func parseSystemCPU(b []byte) uint64 {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) < 8 || f[0] != "cpu" {
		return 0
	}
	var sum uint64
	for _, v := range f[1:8] { // guest times are part of user's
		n, _ := strconv.ParseUint(v, 10, 64)
		sum += n
	}
	return sum * uint64(time.Second/ticks)
}

func hostMemory() uint64 {
	b, _ := os.ReadFile("/proc/meminfo")
	line, _, _ := strings.Cut(string(b), "\n")
	if f := strings.Fields(line); len(f) > 1 && f[0] == "MemTotal:" {
		n, _ := strconv.ParseUint(f[1], 10, 64)
		return n << 10
	}
	return 0
}

// parseNetDev reads /proc/<pid>/net/dev: counters by interface, without loopback.
func parseNetDev(b []byte) map[string]container.NetworkStats {
	out := map[string]container.NetworkStats{}
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if name = strings.TrimSpace(name); !ok || name == "lo" || len(f) < 12 {
			continue
		}
		n := func(i int) uint64 { v, _ := strconv.ParseUint(f[i], 10, 64); return v }
		out[name] = container.NetworkStats{RxBytes: n(0), RxPackets: n(1), RxErrors: n(2), RxDropped: n(3),
			TxBytes: n(8), TxPackets: n(9), TxErrors: n(10), TxDropped: n(11)}
	}
	return out
}
