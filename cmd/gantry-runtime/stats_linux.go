package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
)

// The shapes of an event's data, as runc prints them: a contract of its own, not the library's.
type (
	statsData struct {
		CPU      cpuData            `json:"cpu"`
		CPUSet   cpusetData         `json:"cpuset"`
		Memory   memoryData         `json:"memory"`
		Pids     pidsData           `json:"pids"`
		Blkio    blkioData          `json:"blkio"`
		Hugetlb  map[string]counter `json:"hugetlb"`
		IntelRdt struct{}           `json:"intel_rdt"`
		Networks []networkData      `json:"network_interfaces"`
	}
	cpuData struct {
		Usage struct {
			Total        uint64   `json:"total,omitempty"`
			Percpu       []uint64 `json:"percpu,omitempty"`
			PercpuKernel []uint64 `json:"percpu_kernel,omitempty"`
			PercpuUser   []uint64 `json:"percpu_user,omitempty"`
			Kernel       uint64   `json:"kernel"`
			User         uint64   `json:"user"`
		} `json:"usage"`
		Throttling struct {
			Periods          uint64 `json:"periods,omitempty"`
			ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
			ThrottledTime    uint64 `json:"throttledTime,omitempty"`
		} `json:"throttling"`
		PSI *cgroups.PSIStats `json:"psi,omitempty"`
	}
	cpusetData struct {
		CPUs                  []uint16 `json:"cpus,omitempty"`
		CPUExclusive          uint64   `json:"cpu_exclusive"`
		Mems                  []uint16 `json:"mems,omitempty"`
		MemHardwall           uint64   `json:"mem_hardwall"`
		MemExclusive          uint64   `json:"mem_exclusive"`
		MemoryMigrate         uint64   `json:"memory_migrate"`
		MemorySpreadPage      uint64   `json:"memory_spread_page"`
		MemorySpreadSlab      uint64   `json:"memory_spread_slab"`
		MemoryPressure        uint64   `json:"memory_pressure"`
		SchedLoadBalance      uint64   `json:"sched_load_balance"`
		SchedRelaxDomainLevel int64    `json:"sched_relax_domain_level"`
	}
	counter struct {
		Limit   uint64 `json:"limit,omitempty"`
		Usage   uint64 `json:"usage,omitempty"`
		Max     uint64 `json:"max,omitempty"`
		Failcnt uint64 `json:"failcnt"`
	}
	memoryData struct {
		Cache     uint64            `json:"cache,omitempty"`
		Usage     counter           `json:"usage"`
		Swap      counter           `json:"swap"`
		Kernel    counter           `json:"kernel"`
		KernelTCP counter           `json:"kernelTCP"`
		Raw       map[string]uint64 `json:"raw,omitempty"`
		PSI       *cgroups.PSIStats `json:"psi,omitempty"`
	}
	pidsData struct {
		Current uint64 `json:"current,omitempty"`
		Limit   uint64 `json:"limit,omitempty"`
	}
	blkioEntry struct {
		Major uint64 `json:"major,omitempty"`
		Minor uint64 `json:"minor,omitempty"`
		Op    string `json:"op,omitempty"`
		Value uint64 `json:"value,omitempty"`
	}
	blkioData struct {
		ServiceBytes []blkioEntry      `json:"ioServiceBytesRecursive,omitempty"`
		Serviced     []blkioEntry      `json:"ioServicedRecursive,omitempty"`
		Queued       []blkioEntry      `json:"ioQueueRecursive,omitempty"`
		ServiceTime  []blkioEntry      `json:"ioServiceTimeRecursive,omitempty"`
		WaitTime     []blkioEntry      `json:"ioWaitTimeRecursive,omitempty"`
		Merged       []blkioEntry      `json:"ioMergedRecursive,omitempty"`
		Time         []blkioEntry      `json:"ioTimeRecursive,omitempty"`
		Sectors      []blkioEntry      `json:"sectorsRecursive,omitempty"`
		PSI          *cgroups.PSIStats `json:"psi,omitempty"`
	}
	// networkData counts what the container's interfaces carried, from its own /proc/net/dev.
	networkData struct {
		Name      string
		RxBytes   uint64
		RxPackets uint64
		RxErrors  uint64
		RxDropped uint64
		TxBytes   uint64
		TxPackets uint64
		TxErrors  uint64
		TxDropped uint64
	}
	event struct {
		Type string `json:"type"`
		ID   string `json:"id"`
		Data any    `json:"data,omitempty"`
	}
)

func memoryCounter(m cgroups.MemoryData) counter {
	return counter{Limit: m.Limit, Usage: m.Usage, Max: m.MaxUsage, Failcnt: m.Failcnt}
}

func blkioEntries(l []cgroups.BlkioStatEntry) (out []blkioEntry) {
	for _, e := range l {
		out = append(out, blkioEntry(e))
	}
	return out
}

func shape(s *cgroups.Stats) *statsData {
	d := &statsData{CPUSet: cpusetData(s.CPUSetStats), Pids: pidsData(s.PidsStats), Hugetlb: map[string]counter{}}
	u, from := &d.CPU.Usage, s.CpuStats.CpuUsage
	u.Total, u.Percpu, u.PercpuKernel, u.PercpuUser = from.TotalUsage, from.PercpuUsage, from.PercpuUsageInKernelmode, from.PercpuUsageInUsermode
	u.Kernel, u.User = from.UsageInKernelmode, from.UsageInUsermode
	th := s.CpuStats.ThrottlingData
	d.CPU.Throttling.Periods, d.CPU.Throttling.ThrottledPeriods, d.CPU.Throttling.ThrottledTime = th.Periods, th.ThrottledPeriods, th.ThrottledTime
	d.CPU.PSI, d.Memory.PSI, d.Blkio.PSI = s.CpuStats.PSI, s.MemoryStats.PSI, s.BlkioStats.PSI
	m, mem := &d.Memory, s.MemoryStats
	m.Cache, m.Usage, m.Swap, m.Raw = mem.Cache, memoryCounter(mem.Usage), memoryCounter(mem.SwapUsage), mem.Stats
	m.Kernel, m.KernelTCP = memoryCounter(mem.KernelUsage), memoryCounter(mem.KernelTCPUsage)
	b, io := &d.Blkio, s.BlkioStats
	b.ServiceBytes, b.Serviced, b.Queued = blkioEntries(io.IoServiceBytesRecursive), blkioEntries(io.IoServicedRecursive), blkioEntries(io.IoQueuedRecursive)
	b.ServiceTime, b.WaitTime, b.Merged = blkioEntries(io.IoServiceTimeRecursive), blkioEntries(io.IoWaitTimeRecursive), blkioEntries(io.IoMergedRecursive)
	b.Time, b.Sectors = blkioEntries(io.IoTimeRecursive), blkioEntries(io.SectorsRecursive)
	for size, h := range s.HugetlbStats {
		d.Hugetlb[size] = counter{Usage: h.Usage, Max: h.MaxUsage, Failcnt: h.Failcnt}
	}
	return d
}

// networks reads the counters of the interfaces in a process's network namespace; runc knows only those that
// it made itself, which are none.
func networks(pid int) []networkData {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil
	}
	var out []networkData
	for line := range strings.Lines(string(text)) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if name = strings.TrimSpace(name); !ok || len(f) < 12 || name == "lo" {
			continue
		}
		n := make([]uint64, len(f))
		for i := range f {
			n[i], _ = strconv.ParseUint(f[i], 10, 64)
		}
		out = append(out, networkData{Name: name, RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
			TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11]})
	}
	return out
}

// oomKills counts the processes that the kernel killed in the container's cgroup for want of memory.
func (r *record) oomKills() uint64 {
	for dir, file := range map[string]string{r.Cgroup["memory"]: "memory.oom_control", r.Cgroup[""]: "memory.events"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if dir == "" || err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
				n, _ := strconv.ParseUint(f[1], 10, 64)
				return n
			}
		}
	}
	return 0
}

func (r *record) stats() (*statsData, error) {
	m, err := r.manager()
	if err != nil {
		return nil, err
	}
	s, err := m.GetStats()
	if err != nil {
		return nil, err
	}
	d := shape(s)
	d.Networks = networks(r.Pid)
	return d, nil
}

func eventsCommand(g *globals) *cobra.Command {
	var once bool
	var interval time.Duration
	cmd := &cobra.Command{Use: "events ID", Short: "Print counters, and out of memory, as JSON", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, a []string) error {
		if interval <= 0 {
			return fmt.Errorf("interval %s is not above zero", interval)
		}
		return g.events(a[0], once, interval)
	}}
	cmd.Flags().BoolVar(&once, "stats", false, "Print counters once")
	cmd.Flags().DurationVar(&interval, "interval", 5*time.Second, "Time between two events")
	return cmd
}

// events prints counters at each interval until the container ends, and tells within a quarter of
// a second of processes killed for want of memory.
func (g *globals) events(id string, once bool, interval time.Duration) error {
	out := json.NewEncoder(os.Stdout)
	var killed uint64
	next := time.Now()
	for first := true; ; first = false {
		r, err := g.load(id)
		if err != nil {
			if first {
				return err
			}
			return nil // deleted meanwhile
		}
		if r.Status == specs.StateStopped || r.Status == specs.StateCreating {
			if first {
				return fmt.Errorf("container %q is not running", id)
			}
			return nil
		}
		if n := r.oomKills(); n > killed {
			killed = n
			if !first {
				if err := out.Encode(event{Type: "oom", ID: id}); err != nil {
					return err
				}
			}
		}
		if now := time.Now(); once || !now.Before(next) {
			next = now.Add(interval)
			d, err := r.stats()
			if err != nil {
				return err
			}
			if err := out.Encode(event{Type: "stats", ID: id, Data: d}); err != nil || once {
				return err
			}
		}
		time.Sleep(min(time.Until(next), 250*time.Millisecond))
	}
}
