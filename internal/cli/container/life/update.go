package life

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/opts"
)

type updateOptions struct {
	blkio                                            uint16
	period, quota, rtPeriod, rtRuntime, shares, pids int64
	cpus                                             opts.NanoCPUs
	cpuset, mems, restart                            string
	memory, reservation, kernel                      opts.Bytes
	swap                                             opts.SwapBytes
}

// BuildUpdate is update.
func BuildUpdate(a *app.App, f *pflag.FlagSet) app.RunFunc {
	o := &updateOptions{}
	f.Uint16Var(&o.blkio, "blkio-weight", 0, "Block IO weight, 10 to 1000, or 0 for none")
	f.Int64Var(&o.period, "cpu-period", 0, "Period of the CPU quota in microseconds")
	f.Int64Var(&o.quota, "cpu-quota", 0, "CPU time within one period in microseconds")
	f.Int64Var(&o.rtPeriod, "cpu-rt-period", 0, "Period of the real-time quota in microseconds")
	f.Int64Var(&o.rtRuntime, "cpu-rt-runtime", 0, "Real-time CPU time within one period in microseconds")
	f.StringVar(&o.cpuset, "cpuset-cpus", "", "CPUs to run on (0-3, 0,1)")
	f.StringVar(&o.mems, "cpuset-mems", "", "Memory nodes to use (0-3, 0,1)")
	f.Int64VarP(&o.shares, "cpu-shares", "c", 0, "CPU weight relative to other containers")
	f.VarP(&o.memory, "memory", "m", "Memory limit")
	f.Var(&o.reservation, "memory-reservation", "Soft memory limit")
	f.Var(&o.swap, "memory-swap", "Limit of memory and swap together, -1 for no limit")
	f.Var(&o.kernel, "kernel-memory", "Kernel memory limit")
	_ = f.MarkDeprecated("kernel-memory", "and no longer supported by the kernel")
	f.StringVar(&o.restart, "restart", "", "Restart policy to apply when the container exits")
	f.Int64Var(&o.pids, "pids-limit", 0, "Limit of processes (-1 for none)")
	f.Var(&o.cpus, "cpus", "Number of CPUs")
	return func(ctx context.Context, args []string) error {
		if f.NFlag() == 0 {
			return errors.New("you must provide one or more flags when using this command")
		}
		policy, err := opts.ParseRestart(o.restart)
		if err != nil {
			return err
		}
		req := container.UpdateConfig{RestartPolicy: policy, Resources: container.Resources{
			BlkioWeight: o.blkio, CpusetCpus: o.cpuset, CpusetMems: o.mems, CPUShares: o.shares, Memory: int64(o.memory), MemoryReservation: int64(o.reservation),
			MemorySwap: int64(o.swap), CPUPeriod: o.period, CPUQuota: o.quota, CPURealtimePeriod: o.rtPeriod, CPURealtimeRuntime: o.rtRuntime, NanoCPUs: int64(o.cpus),
		}}
		if f.Changed("pids-limit") {
			req.PidsLimit = &o.pids
		}
		return update(ctx, a, req, args)
	}
}

func update(ctx context.Context, a *app.App, req container.UpdateConfig, args []string) error {
	c, err := a.Engine.Client()
	if err != nil {
		return err
	}
	var warnings []string
	err = a.Each(args, func(name string) error {
		var out container.UpdateResponse
		if err := c.Post(ctx, "/containers/"+url.PathEscape(name)+"/update", nil, req, &out); err != nil {
			return err
		}
		warnings = append(warnings, out.Warnings...)
		return nil
	})
	if len(warnings) > 0 {
		fmt.Fprintln(a.Out, strings.Join(warnings, "\n"))
	}
	return err
}
