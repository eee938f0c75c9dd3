package cgroup

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // device rules on v1 and v2
	devconf "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/cgroups/manager"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Manager gives the library's manager for existing directories; with systemd for a scope's, whose path
// says its name.
func Manager(path string, dirs map[string]string, systemd bool, r *cgroups.Resources) (cgroups.Manager, error) {
	if r == nil {
		r = &cgroups.Resources{SkipDevices: true}
	}
	cg := &cgroups.Cgroup{Path: path, Resources: r, Systemd: systemd}
	if systemd {
		s := scopeAt(path)
		cg.Path, cg.Parent, cg.ScopePrefix, cg.Name = "", s.Slice, s.Prefix, s.Name
	}
	return manager.NewWithPaths(cg, dirs)
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// Resources turns OCI resources into the library's. Device rules are set only
// when there are some.
func Resources(r *specs.LinuxResources) (*cgroups.Resources, error) {
	out := &cgroups.Resources{SkipDevices: true}
	if r == nil {
		return out, nil
	}
	if m := r.Memory; m != nil {
		if m.Limit != nil && *m.Limit > 0 && *m.Limit < 512<<10 {
			return nil, fmt.Errorf("a memory limit of %d bytes is too small to start anything: %w", *m.Limit, errdefs.ErrInvalidArgument)
		}
		out.Memory, out.MemoryReservation, out.MemorySwap = deref(m.Limit), deref(m.Reservation), deref(m.Swap)
		out.MemorySwappiness = m.Swappiness
		out.OomKillDisable = deref(m.DisableOOMKiller)
		out.MemoryCheckBeforeUpdate = deref(m.CheckBeforeUpdate)
	}
	if c := r.CPU; c != nil {
		out.CpuShares, out.CpuQuota, out.CpuPeriod = deref(c.Shares), deref(c.Quota), deref(c.Period)
		out.CpuRtRuntime, out.CpuRtPeriod = deref(c.RealtimeRuntime), deref(c.RealtimePeriod)
		out.CpusetCpus, out.CpusetMems = c.Cpus, c.Mems
		out.CPUIdle, out.CpuBurst = c.Idle, c.Burst
		if out.CpuShares != 0 {
			out.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(out.CpuShares)
		}
	}
	if r.Pids != nil {
		out.PidsLimit = r.Pids.Limit
	}
	blockIO(out, r.BlockIO)
	for _, h := range r.HugepageLimits {
		out.HugetlbLimit = append(out.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: h.Pagesize, Limit: h.Limit})
	}
	if n := r.Network; n != nil {
		out.NetClsClassid = deref(n.ClassID)
		for _, p := range n.Priorities {
			out.NetPrioIfpriomap = append(out.NetPrioIfpriomap, &cgroups.IfPrioMap{Interface: p.Name, Priority: int64(p.Priority)})
		}
	}
	if len(r.Rdma) > 0 {
		out.Rdma = map[string]cgroups.LinuxRdma{}
		for k, v := range r.Rdma {
			out.Rdma[k] = cgroups.LinuxRdma{HcaHandles: v.HcaHandles, HcaObjects: v.HcaObjects}
		}
	}
	out.Unified = r.Unified
	return out, deviceRules(out, r.Devices)
}

func blockIO(out *cgroups.Resources, b *specs.LinuxBlockIO) {
	if b == nil {
		return
	}
	out.BlkioWeight, out.BlkioLeafWeight = deref(b.Weight), deref(b.LeafWeight)
	for _, w := range b.WeightDevice {
		out.BlkioWeightDevice = append(out.BlkioWeightDevice, cgroups.NewWeightDevice(w.Major, w.Minor, deref(w.Weight), deref(w.LeafWeight)))
	}
	throttle := func(l []specs.LinuxThrottleDevice) (t []*cgroups.ThrottleDevice) {
		for _, d := range l {
			t = append(t, cgroups.NewThrottleDevice(d.Major, d.Minor, d.Rate))
		}
		return t
	}
	out.BlkioThrottleReadBpsDevice, out.BlkioThrottleWriteBpsDevice = throttle(b.ThrottleReadBpsDevice), throttle(b.ThrottleWriteBpsDevice)
	out.BlkioThrottleReadIOPSDevice, out.BlkioThrottleWriteIOPSDevice = throttle(b.ThrottleReadIOPSDevice), throttle(b.ThrottleWriteIOPSDevice)
}

// always are devices that every container may use, whatever the rules say before.
var always = []struct {
	major, minor int64
	perms        string
}{{-1, -1, "m"}, {1, 3, "rwm"}, {1, 5, "rwm"}, {1, 7, "rwm"}, {1, 8, "rwm"}, {1, 9, "rwm"}, {5, 0, "rwm"}, {5, 2, "rwm"}, {136, -1, "rwm"}}

func deviceRules(out *cgroups.Resources, rules []specs.LinuxDeviceCgroup) error {
	if len(rules) == 0 {
		return nil
	}
	out.SkipDevices = false
	for _, d := range rules {
		kind := devconf.Type('a')
		if d.Type != "" {
			kind = devconf.Type(d.Type[0])
		}
		if kind != 'a' && kind != 'b' && kind != 'c' {
			return fmt.Errorf("device rule of type %q is not known: %w", d.Type, errdefs.ErrInvalidArgument)
		}
		rule := &devconf.Rule{Type: kind, Major: -1, Minor: -1, Permissions: devconf.Permissions(d.Access), Allow: d.Allow}
		if d.Major != nil {
			rule.Major = *d.Major
		}
		if d.Minor != nil {
			rule.Minor = *d.Minor
		}
		if rule.Permissions == "" {
			rule.Permissions = "rwm"
		}
		out.Devices = append(out.Devices, rule)
	}
	for _, a := range always {
		out.Devices = append(out.Devices, &devconf.Rule{Type: 'c', Major: a.major, Minor: a.minor, Permissions: devconf.Permissions(a.perms), Allow: true})
	}
	out.Devices = append(out.Devices, &devconf.Rule{Type: 'b', Major: -1, Minor: -1, Permissions: "m", Allow: true})
	return nil
}
