// Package limits checks how much of the host a container asks for, against what
// makes sense and what the host can limit.
package limits

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/containers/ocispec/facts"
)

// minMemory is the smallest memory limit that is accepted: 6 MiB.
const minMemory = 6 << 20

// Check validates limits as create and update take them, with Docker's texts.
// What the host cannot limit is taken out of r and returned as a warning.
func Check(r *container.Resources, h *facts.Host) (warnings []string, err error) {
	warn := func(text string) { warnings = append(warnings, text) }
	if err := checkMemory(r); err != nil {
		return nil, err
	}
	if r.Memory > 0 && !h.MemoryLimit {
		warn("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.Memory, r.MemorySwap = 0, -1
	}
	if r.Memory > 0 && r.MemorySwap != -1 && !h.SwapLimit {
		warn("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
		r.MemorySwap = -1
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 && !h.Swappiness {
		warn("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
		r.MemorySwappiness = nil
	}
	if r.MemoryReservation > 0 && !h.MemoryReservation {
		warn("Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.MemoryReservation = 0
	}
	if r.OomKillDisable != nil && !h.OomKillDisable {
		if *r.OomKillDisable {
			warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
		}
		r.OomKillDisable = nil
	}
	if r.OomKillDisable != nil && *r.OomKillDisable && r.Memory == 0 {
		warn("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
	if r.PidsLimit != nil && *r.PidsLimit > 0 && !h.PidsLimit {
		warn("Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.")
		r.PidsLimit = nil
	}
	more, err := checkCPU(r, h)
	if err != nil {
		return nil, err
	}
	blk, err := checkBlkio(r, h)
	if err != nil {
		return nil, err
	}
	return slices.Concat(warnings, more, blk), nil
}

func checkMemory(r *container.Resources) error {
	switch {
	case r.Memory != 0 && r.Memory < minMemory:
		return classed.Invalid("Minimum memory limit allowed is 6MB")
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return classed.Invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	case r.Memory == 0 && r.MemorySwap > 0:
		return classed.Invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	case r.MemorySwap < -1:
		return classed.Invalid("invalid memory and swap limit (%d): it must be -1 for no limit, or larger than the memory limit", r.MemorySwap)
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100):
		return classed.Invalid("Invalid value: %d, valid memory swappiness range is 0-100", *r.MemorySwappiness)
	case r.MemoryReservation > 0 && r.MemoryReservation < minMemory:
		return classed.Invalid("Minimum memory reservation allowed is 6MB")
	case r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation:
		return classed.Invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	return nil
}

func checkCPU(r *container.Resources, h *facts.Host) (warnings []string, err error) {
	switch {
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return nil, classed.Invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return nil, classed.Invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case r.NanoCPUs != 0 && !h.CPUCfs:
		return nil, classed.Invalid("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
	case r.NanoCPUs < 0 || h.CPUs > 0 && r.NanoCPUs > int64(h.CPUs)*1e9:
		return nil, classed.Invalid("range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", h.CPUs, h.CPUs)
	case r.CPUShares < 0:
		return nil, classed.Invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1_000_000):
		return nil, classed.Invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return nil, classed.Invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case (r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0) && !h.CPURealtime:
		return nil, classed.Invalid("kernel does not support CPU real-time scheduler")
	case r.CPURealtimePeriod != 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod:
		return nil, classed.Invalid("cpu real-time runtime cannot be higher than cpu real-time period")
	}
	if r.CPUShares > 0 && !h.CPUShares {
		warnings = append(warnings, "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.")
		r.CPUShares = 0
	}
	if (r.CPUPeriod != 0 || r.CPUQuota > 0) && !h.CPUCfs {
		warnings = append(warnings, "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
		r.CPUPeriod, r.CPUQuota = 0, 0
	}
	for _, set := range []struct {
		name, value string
		limit       int
	}{{"cpus", r.CpusetCpus, h.CPUs}, {"mems", r.CpusetMems, 0}} {
		top, err := topOfList(set.value)
		if err != nil {
			return nil, classed.Invalid("invalid value %s for cpuset %s", set.value, set.name)
		}
		if set.limit > 0 && top >= set.limit {
			return nil, classed.Invalid("Requested CPUs are not available - requested %s, available: 0-%d", set.value, set.limit-1)
		}
	}
	if (r.CpusetCpus != "" || r.CpusetMems != "") && !h.Cpuset {
		warnings = append(warnings, "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
		r.CpusetCpus, r.CpusetMems = "", ""
	}
	return warnings, nil
}

// topOfList is the highest number in a list like "0-2,7"; -1 for the empty list.
func topOfList(list string) (int, error) {
	top := -1
	if list == "" {
		return top, nil
	}
	for _, part := range strings.Split(list, ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		if !isRange {
			hi = lo
		}
		a, err := strconv.ParseUint(lo, 10, 16)
		if err != nil {
			return 0, err
		}
		b, err := strconv.ParseUint(hi, 10, 16)
		if err != nil {
			return 0, err
		}
		if b < a {
			return 0, fmt.Errorf("range %q runs backwards", part)
		}
		top = max(top, int(b))
	}
	return top, nil
}

func checkBlkio(r *container.Resources, h *facts.Host) (warnings []string, err error) {
	if r.BlkioWeight > 0 && !h.BlkioWeight {
		warnings = append(warnings, "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
		r.BlkioWeight = 0
	}
	if r.BlkioWeight != 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		return nil, classed.Invalid("Range of blkio weight is from 10 to 1000")
	}
	for _, d := range r.BlkioWeightDevice {
		if d.Weight < 10 || d.Weight > 1000 {
			return nil, classed.Invalid("Range of blkio weight is from 10 to 1000")
		}
		if err := checkNode(d.Path); err != nil {
			return nil, err
		}
	}
	if len(r.BlkioWeightDevice) > 0 && !h.BlkioWeight {
		warnings = append(warnings, "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.")
		r.BlkioWeightDevice = nil
	}
	for _, t := range []struct {
		list *[]*blkiodev.ThrottleDevice
		text string
	}{
		{&r.BlkioDeviceReadBps, "BPS Block I/O read limit"}, {&r.BlkioDeviceWriteBps, "BPS Block I/O write limit"},
		{&r.BlkioDeviceReadIOps, "IOPS Block read limit"}, {&r.BlkioDeviceWriteIOps, "IOPS Block write limit"},
	} {
		for _, d := range *t.list {
			if err := checkNode(d.Path); err != nil {
				return nil, err
			}
		}
		if len(*t.list) > 0 && !h.BlkioThrottle {
			warnings = append(warnings, "Your kernel does not support "+t.text+" or the cgroup is not mounted. Limit discarded.")
			*t.list = nil
		}
	}
	return warnings, nil
}

func checkNode(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return classed.Invalid("the block device %s cannot be limited: %v", path, err)
	}
	if fi.Mode()&os.ModeDevice == 0 {
		return classed.Invalid("%s is not a device node", path)
	}
	return nil
}
