package ocispec

import (
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Resources are the cgroup limits that the API's resources mean. What is not set
// stays nil, so that the same function serves create and update.
func Resources(r *container.Resources) *specs.LinuxResources {
	out := &specs.LinuxResources{Memory: memory(r), CPU: cpu(r), BlockIO: blkio(r)}
	if r.PidsLimit != nil && *r.PidsLimit != 0 {
		limit := max(*r.PidsLimit, -1)
		out.Pids = &specs.LinuxPids{Limit: &limit}
	}
	return out
}

func nonzero(v int64) *int64 {
	if v == 0 {
		return nil
	}
	return &v
}

func memory(r *container.Resources) *specs.LinuxMemory {
	m := &specs.LinuxMemory{Limit: nonzero(r.Memory), Reservation: nonzero(r.MemoryReservation), Swap: nonzero(r.MemorySwap)}
	if r.OomKillDisable != nil && *r.OomKillDisable {
		m.DisableOOMKiller = r.OomKillDisable
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
		v := uint64(*r.MemorySwappiness)
		m.Swappiness = &v
	}
	if *m == (specs.LinuxMemory{}) {
		return nil
	}
	return m
}

func cpu(r *container.Resources) *specs.LinuxCPU {
	c := &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems, Quota: nonzero(r.CPUQuota), RealtimeRuntime: nonzero(r.CPURealtimeRuntime)}
	if r.CPUShares > 0 {
		v := uint64(r.CPUShares)
		c.Shares = &v
	}
	if r.CPUPeriod > 0 {
		v := uint64(r.CPUPeriod)
		c.Period = &v
	}
	if r.CPURealtimePeriod > 0 {
		v := uint64(r.CPURealtimePeriod)
		c.RealtimePeriod = &v
	}
	if r.NanoCPUs > 0 {
		const period = 100_000 // µs; NanoCPUs are 10⁻⁹ processors
		p, q := uint64(period), r.NanoCPUs*period/1e9
		c.Period, c.Quota = &p, &q
	}
	if *c == (specs.LinuxCPU{}) {
		return nil
	}
	return c
}

func blkio(r *container.Resources) *specs.LinuxBlockIO {
	b := &specs.LinuxBlockIO{
		ThrottleReadBpsDevice:   throttles(r.BlkioDeviceReadBps),
		ThrottleWriteBpsDevice:  throttles(r.BlkioDeviceWriteBps),
		ThrottleReadIOPSDevice:  throttles(r.BlkioDeviceReadIOps),
		ThrottleWriteIOPSDevice: throttles(r.BlkioDeviceWriteIOps),
	}
	if r.BlkioWeight > 0 {
		w := r.BlkioWeight
		b.Weight = &w
	}
	for _, d := range r.BlkioWeightDevice {
		if major, minor, ok := nodeNumbers(d.Path); ok {
			w := d.Weight
			wd := specs.LinuxWeightDevice{Weight: &w}
			wd.Major, wd.Minor = major, minor
			b.WeightDevice = append(b.WeightDevice, wd)
		}
	}
	if b.Weight == nil && b.WeightDevice == nil && b.ThrottleReadBpsDevice == nil && b.ThrottleWriteBpsDevice == nil &&
		b.ThrottleReadIOPSDevice == nil && b.ThrottleWriteIOPSDevice == nil {
		return nil
	}
	return b
}

// throttles leaves out devices that are not there: create has refused them already.
func throttles(ds []*blkiodev.ThrottleDevice) []specs.LinuxThrottleDevice {
	var out []specs.LinuxThrottleDevice
	for _, d := range ds {
		if major, minor, ok := nodeNumbers(d.Path); ok {
			t := specs.LinuxThrottleDevice{Rate: d.Rate}
			t.Major, t.Minor = major, minor
			out = append(out, t)
		}
	}
	return out
}
