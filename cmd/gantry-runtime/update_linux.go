package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/sys/cgroup"
)

// updateOptions are limits on the command line; those not given stay as they are.
type updateOptions struct {
	file                                                    string
	memory, reservation, swap, pids, quota, realtimeRuntime int64
	period, shares, realtimePeriod                          uint64
	weight                                                  uint16
	cpus, mems, cacheSchema, bandwidthSchema                string
}

func (o *updateOptions) flags(f *pflag.FlagSet) {
	f.StringVarP(&o.file, "resources", "r", "", "File with OCI resources as JSON, - for standard input; all other options are ignored")
	f.Int64Var(&o.memory, "memory", 0, "Bytes")
	f.Int64Var(&o.reservation, "memory-reservation", 0, "Bytes")
	f.Int64Var(&o.swap, "memory-swap", 0, "Bytes of memory and swap, -1 for no limit")
	f.Int64Var(&o.pids, "pids-limit", 0, "Processes")
	f.Int64Var(&o.quota, "cpu-quota", 0, "Microseconds in a period")
	f.Uint64Var(&o.period, "cpu-period", 0, "Microseconds")
	f.Uint64Var(&o.shares, "cpu-share", 0, "Weight, 1024 is usual")
	f.Uint64Var(&o.realtimePeriod, "cpu-rt-period", 0, "Microseconds")
	f.Int64Var(&o.realtimeRuntime, "cpu-rt-runtime", 0, "Microseconds in a real-time period")
	f.StringVar(&o.cpus, "cpuset-cpus", "", "Processors")
	f.StringVar(&o.mems, "cpuset-mems", "", "Memory nodes")
	f.Uint16Var(&o.weight, "blkio-weight", 0, "Weight of input and output, 10 to 1000")
	f.StringVar(&o.cacheSchema, "l3-cache-schema", "", "Not supported")
	f.StringVar(&o.bandwidthSchema, "mem-bw-schema", "", "Not supported")
}

func (o *updateOptions) resources(f *pflag.FlagSet) (*specs.LinuxResources, error) {
	if o.file != "" {
		return readResources(o.file)
	}
	if o.cacheSchema != "" || o.bandwidthSchema != "" {
		return nil, errors.New("resource director technology (--l3-cache-schema, --mem-bw-schema) is not supported")
	}
	res := &specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{Cpus: o.cpus, Mems: o.mems}}
	set(&res.Memory.Limit, o.memory, f.Changed("memory"))
	set(&res.Memory.Reservation, o.reservation, f.Changed("memory-reservation"))
	set(&res.Memory.Swap, o.swap, f.Changed("memory-swap"))
	set(&res.CPU.Quota, o.quota, f.Changed("cpu-quota"))
	set(&res.CPU.Period, o.period, f.Changed("cpu-period"))
	set(&res.CPU.Shares, o.shares, f.Changed("cpu-share"))
	set(&res.CPU.RealtimePeriod, o.realtimePeriod, f.Changed("cpu-rt-period"))
	set(&res.CPU.RealtimeRuntime, o.realtimeRuntime, f.Changed("cpu-rt-runtime"))
	if f.Changed("pids-limit") {
		res.Pids = &specs.LinuxPids{Limit: &o.pids}
	}
	if f.Changed("blkio-weight") {
		res.BlockIO = &specs.LinuxBlockIO{Weight: &o.weight}
	}
	return res, nil
}

func updateCommand(g *globals) *cobra.Command {
	o := &updateOptions{}
	cmd := &cobra.Command{Use: "update ID", Short: "Change limits", Args: cobra.ExactArgs(1)}
	o.flags(cmd.Flags())
	cmd.RunE = func(_ *cobra.Command, a []string) error {
		r, err := g.load(a[0])
		if err != nil {
			return err
		}
		if r.Pid == 0 {
			return fmt.Errorf("cannot update container %q: it is %s", a[0], r.Status)
		}
		res, err := o.resources(cmd.Flags())
		if err != nil {
			return err
		}
		res.Devices = nil // what a container may open was settled when it was created
		limits, err := cgroup.Resources(res)
		if err != nil {
			return err
		}
		m, err := r.manager()
		if err != nil {
			return err
		}
		if err := m.Set(limits); err != nil {
			return err
		}
		return kernelMemory(r.Cgroup, res.Memory)
	}
	return cmd
}

func set[T any](to **T, v T, given bool) {
	if given {
		*to = &v
	}
}

func readResources(file string) (*specs.LinuxResources, error) {
	var b []byte
	var err error
	if file == "-" {
		b, err = io.ReadAll(os.Stdin)
	} else {
		b, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, err
	}
	res := &specs.LinuxResources{}
	if err := json.Unmarshal(b, res); err != nil {
		return nil, fmt.Errorf("resources %s: %w", file, err)
	}
	return res, nil
}
