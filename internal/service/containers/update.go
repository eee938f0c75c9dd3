package containers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/containers/limits"
	"github.com/gantry-engine/gantry/internal/service/containers/ocispec"
)

// Update changes limits and the restart policy: committed first, then applied;
// where the kernel refuses, the record is set back.
func (c *changer) Update(ctx context.Context, ref string, u container.UpdateConfig) (container.UpdateResponse, error) {
	out := container.UpdateResponse{Warnings: []string{}}
	if err := updatable(&u); err != nil {
		return out, err
	}
	e, unlock, err := c.open(ctx, ref)
	if err != nil {
		return out, err
	}
	defer unlock()
	old := e.snapshot()
	if err := old.may(EvUpdate); err != nil {
		return out, err
	}
	hc := *old.HostConfig
	if err := mergeResources(&hc.Resources, &u.Resources); err != nil {
		return out, err
	}
	warnings, err := limits.Check(&hc.Resources, &c.Config.Host)
	if err != nil {
		return out, err
	}
	out.Warnings = append(out.Warnings, warnings...)
	if u.RestartPolicy.Name != "" {
		if err := container.ValidateRestartPolicy(u.RestartPolicy); err != nil {
			return out, classed.Invalid("%w", err)
		}
		if hc.AutoRemove && !u.RestartPolicy.IsNone() {
			return out, classed.Invalid("Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		hc.RestartPolicy = u.RestartPolicy
	}
	rec, err := c.change(ctx, e, durable, func(r *Container) { r.HostConfig = &hc })
	if err != nil {
		return out, err
	}
	if rec.State.Status.Alive() {
		if err := c.Cgroups.Update(ctx, rec.Cgroup, ocispec.Resources(&hc.Resources)); err != nil {
			ctx = context.WithoutCancel(ctx)
			_, undo := c.change(ctx, e, durable, func(r *Container) { r.HostConfig = old.HostConfig })
			back := c.Cgroups.Update(ctx, old.Cgroup, ocispec.Resources(&old.HostConfig.Resources))
			return out, errors.Join(fmt.Errorf("Cannot update container %s: %w", rec.ID, err), undo, back)
		}
	}
	c.publish(rec, events.ActionUpdate, nil)
	return out, nil
}

// updatable refuses what no running container's cgroup can take.
func updatable(u *container.UpdateConfig) error {
	var bad []string
	for name, set := range map[string]bool{
		"Devices": len(u.Devices) > 0, "DeviceCgroupRules": len(u.DeviceCgroupRules) > 0, "DeviceRequests": len(u.DeviceRequests) > 0,
		"Ulimits": len(u.Ulimits) > 0, "CgroupParent": u.CgroupParent != "", "OomKillDisable": u.OomKillDisable != nil && *u.OomKillDisable,
		"BlkioWeightDevice": len(u.BlkioWeightDevice) > 0, "BlkioDeviceReadBps": len(u.BlkioDeviceReadBps) > 0, "BlkioDeviceWriteBps": len(u.BlkioDeviceWriteBps) > 0,
		"BlkioDeviceReadIOps": len(u.BlkioDeviceReadIOps) > 0, "BlkioDeviceWriteIOps": len(u.BlkioDeviceWriteIOps) > 0, "MemorySwappiness": u.MemorySwappiness != nil,
		"CpuCount": u.CPUCount != 0, "CpuPercent": u.CPUPercent != 0, "IOMaximumIOps": u.IOMaximumIOps != 0, "IOMaximumBandwidth": u.IOMaximumBandwidth != 0,
	} {
		if set {
			bad = append(bad, name)
		}
	}
	if len(bad) > 0 {
		return classed.Unsupported("updating " + strings.Join(bad, ", "))
	}
	return nil
}

// mergeResources puts what an update sets over a container's limits.
func mergeResources(to, u *container.Resources) error {
	if u.NanoCPUs > 0 && (to.CPUPeriod > 0 || to.CPUQuota > 0) {
		return classed.Conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period/Quota has already been set")
	}
	if (u.CPUPeriod > 0 || u.CPUQuota > 0) && to.NanoCPUs > 0 {
		return classed.Conflict("Conflicting options: CPU Period/Quota cannot be updated as NanoCPUs has already been set")
	}
	set := func(to *int64, v int64) {
		if v != 0 {
			*to = v
		}
	}
	if u.Memory != 0 && u.MemorySwap == 0 && to.MemorySwap > 0 && u.Memory > to.MemorySwap {
		return classed.Conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	set(&to.CPUShares, u.CPUShares)
	set(&to.NanoCPUs, u.NanoCPUs)
	set(&to.CPUPeriod, u.CPUPeriod)
	set(&to.CPUQuota, u.CPUQuota)
	set(&to.CPURealtimePeriod, u.CPURealtimePeriod)
	set(&to.CPURealtimeRuntime, u.CPURealtimeRuntime)
	set(&to.Memory, u.Memory)
	set(&to.MemorySwap, u.MemorySwap)
	set(&to.MemoryReservation, u.MemoryReservation)
	if u.CpusetCpus != "" {
		to.CpusetCpus = u.CpusetCpus
	}
	if u.CpusetMems != "" {
		to.CpusetMems = u.CpusetMems
	}
	if u.BlkioWeight != 0 {
		to.BlkioWeight = u.BlkioWeight
	}
	if u.PidsLimit != nil {
		to.PidsLimit = u.PidsLimit
	}
	return nil
}
