package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/cgroups"
)

// need is what limits a controller has to be there for.
type need struct {
	v1, v2 string // the controller's name; "-" where the version needs none
	limits []limit
}

type limit struct {
	name string
	set  bool
}

func needs(r *cgroups.Resources) []need {
	positive := func(p *int64) bool { return p != nil && *p > 0 }
	return []need{
		{"memory", "memory", []limit{{"memory limit", r.Memory > 0}, {"memory reservation", r.MemoryReservation > 0}, {"swap limit", r.MemorySwap > 0}}},
		{"memory", "-", []limit{{"swappiness", r.MemorySwappiness != nil}, {"disabled OOM killer", r.OomKillDisable}}},
		{"cpu", "cpu", []limit{{"CPU shares", r.CpuShares > 0}, {"CPU quota", r.CpuQuota > 0}, {"CPU period", r.CpuPeriod > 0}, {"idle CPU", r.CPUIdle != nil}}},
		{"cpu", "-", []limit{{"realtime runtime", r.CpuRtRuntime > 0}, {"realtime period", r.CpuRtPeriod > 0}}},
		{"cpuset", "cpuset", []limit{{"processors", r.CpusetCpus != ""}, {"memory nodes", r.CpusetMems != ""}}},
		{"pids", "pids", []limit{{"process limit", positive(r.PidsLimit)}}},
		{"blkio", "io", []limit{
			{"block IO weight", r.BlkioWeight > 0 || len(r.BlkioWeightDevice) > 0},
			{"block IO rate", len(r.BlkioThrottleReadBpsDevice)+len(r.BlkioThrottleWriteBpsDevice)+len(r.BlkioThrottleReadIOPSDevice)+len(r.BlkioThrottleWriteIOPSDevice) > 0},
		}},
		{"hugetlb", "hugetlb", []limit{{"huge page limit", len(r.HugetlbLimit) > 0}}},
		{"rdma", "rdma", []limit{{"RDMA limit", len(r.Rdma) > 0}}},
		{"net_cls", "-", []limit{{"network class", r.NetClsClassid > 0}}},
		{"net_prio", "-", []limit{{"network priority", len(r.NetPrioIfpriomap) > 0}}},
		{"devices", "-", []limit{{"device rules", !r.SkipDevices && len(r.Devices) > 0}}},
	}
}

// Check refuses limits that are asked for and that nothing would keep, because the cgroup in dirs (as Make
// gives them) lacks the controller. It names both.
func Check(dirs map[string]string, r *cgroups.Resources) error {
	v2 := dirs[""] != ""
	if v2 && len(r.Unified) == 0 && !anySet(r) {
		return nil
	}
	var have []string
	if v2 {
		text, err := os.ReadFile(filepath.Join(dirs[""], "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("cgroup %s: %w", dirs[""], err)
		}
		have = strings.Fields(string(text))
	}
	var missing []string
	for _, n := range needs(r) {
		for _, l := range n.limits {
			switch {
			case !l.set, v2 && n.v2 == "-", !v2 && dirs[n.v1] != "", v2 && slices.Contains(have, n.v2):
			case v2:
				missing = append(missing, fmt.Sprintf("%s (controller %q)", l.name, n.v2))
			default:
				missing = append(missing, fmt.Sprintf("%s (controller %q)", l.name, n.v1))
			}
		}
	}
	if !v2 && len(r.Unified) > 0 {
		missing = append(missing, "unified resources (cgroup v2)")
	}
	for file := range r.Unified {
		controller, _, _ := strings.Cut(file, ".")
		if v2 && controller != "cgroup" && !slices.Contains(have, controller) {
			missing = append(missing, fmt.Sprintf("%s (controller %q)", file, controller))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("this host cannot keep what is asked for, it lacks the controllers or they are not delegated: %s: %w", strings.Join(missing, ", "), errdefs.ErrFailedPrecondition)
}

func anySet(r *cgroups.Resources) bool {
	for _, n := range needs(r) {
		for _, l := range n.limits {
			if l.set {
				return true
			}
		}
	}
	return false
}
