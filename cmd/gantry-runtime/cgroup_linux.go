package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/cgroup"
)

const statePaused specs.ContainerState = "paused"

func (r *record) manager() (cgroups.Manager, error) {
	return cgroup.Manager(r.Path, r.Cgroup, false, nil)
}

func (r *record) paused() bool {
	m, err := r.manager()
	if err != nil {
		return false
	}
	s, err := m.GetFreezerState()
	return err == nil && s == cgroups.Frozen
}

func (r *record) freeze(to cgroups.FreezerState) error {
	m, err := r.manager()
	if err != nil {
		return err
	}
	return m.Freeze(to)
}

// killAll signals every process in the container's cgroup.
func killAll(r *record, sig unix.Signal) error {
	m, err := r.manager()
	if err != nil {
		return err
	}
	pids, err := m.GetAllPids()
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	var errs []error
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
			errs = append(errs, fmt.Errorf("process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

func freezeCommand(g *globals, use, short string, from, to specs.ContainerState, state cgroups.FreezerState) *cobra.Command {
	return &cobra.Command{Use: use + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, a []string) error {
		r, err := g.load(a[0])
		if err != nil {
			return err
		}
		if r.Status != from {
			return fmt.Errorf("cannot make container %q %s: it is %s, not %s", a[0], to, r.Status, from)
		}
		return r.freeze(state)
	}}
}

func pauseCommand(g *globals) *cobra.Command {
	return freezeCommand(g, "pause", "Freeze all processes", specs.StateRunning, statePaused, cgroups.Frozen)
}

func resumeCommand(g *globals) *cobra.Command {
	return freezeCommand(g, "resume", "Thaw all processes", statePaused, specs.StateRunning, cgroups.Thawed)
}

func psCommand(g *globals) *cobra.Command {
	format := ""
	cmd := &cobra.Command{Use: "ps ID [OPTIONS OF PS]", Short: "List the processes of a container", Args: cobra.MinimumNArgs(1), RunE: func(_ *cobra.Command, a []string) error {
		r, err := g.load(a[0])
		if err != nil {
			return err
		}
		m, err := r.manager()
		if err != nil {
			return err
		}
		pids, err := m.GetAllPids()
		if err != nil {
			return err
		}
		switch format {
		case "json":
			return json.NewEncoder(os.Stdout).Encode(pids)
		case "table":
			return psTable(os.Stdout, pids, a[1:])
		}
		return fmt.Errorf("format %q is not known: table or json", format)
	}}
	cmd.Flags().StringVarP(&format, "format", "f", "table", "table or json")
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// psTable prints the lines of ps(1) that are about pids.
func psTable(w io.Writer, pids []int, options []string) error {
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	out, err := exec.Command("ps", options...).Output()
	if err != nil {
		return fmt.Errorf("ps %s: %w", strings.Join(options, " "), err)
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	column := -1
	for i, f := range strings.Fields(lines[0]) {
		if f == "PID" {
			column = i
		}
	}
	if column < 0 {
		return errors.New("ps prints no column PID: choose other options")
	}
	ours := map[string]bool{}
	for _, p := range pids {
		ours[strconv.Itoa(p)] = true
	}
	fmt.Fprintln(w, lines[0])
	for _, l := range lines[1:] {
		if f := strings.Fields(l); len(f) > column && ours[f[column]] {
			fmt.Fprintln(w, l)
		}
	}
	return nil
}

func eventsCommand(g *globals) *cobra.Command {
	var once bool
	var interval time.Duration
	cmd := &cobra.Command{Use: "events ID", Short: "Print counters as JSON", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, a []string) error {
		if interval <= 0 {
			return fmt.Errorf("interval %s is not above zero", interval)
		}
		for {
			r, err := g.load(a[0])
			if err != nil {
				return err
			}
			if r.Status == specs.StateStopped {
				if once {
					return fmt.Errorf("container %q is not running", a[0])
				}
				return nil
			}
			m, err := r.manager()
			if err != nil {
				return err
			}
			stats, err := m.GetStats()
			if err != nil {
				return err
			}
			event := map[string]any{"type": "stats", "id": r.ID, "data": stats}
			if err := json.NewEncoder(os.Stdout).Encode(event); err != nil || once {
				return err
			}
			time.Sleep(interval)
		}
	}}
	cmd.Flags().BoolVar(&once, "stats", false, "Print them once")
	cmd.Flags().DurationVar(&interval, "interval", 5*time.Second, "Time between two events")
	return cmd
}

func updateCommand(g *globals) *cobra.Command {
	var file string
	var memory, reservation, swap, pids, quota int64
	var period, shares uint64
	var cpus, mems string
	cmd := &cobra.Command{Use: "update ID", Short: "Change limits", Args: cobra.ExactArgs(1)}
	f := cmd.Flags()
	f.StringVarP(&file, "resources", "r", "", "File with OCI resources as JSON, - for standard input")
	f.Int64Var(&memory, "memory", 0, "Bytes")
	f.Int64Var(&reservation, "memory-reservation", 0, "Bytes")
	f.Int64Var(&swap, "memory-swap", 0, "Bytes of memory and swap")
	f.Int64Var(&pids, "pids-limit", 0, "Processes")
	f.Int64Var(&quota, "cpu-quota", 0, "Microseconds in a period")
	f.Uint64Var(&period, "cpu-period", 0, "Microseconds")
	f.Uint64Var(&shares, "cpu-share", 0, "Weight, 1024 is usual")
	f.StringVar(&cpus, "cpuset-cpus", "", "Processors")
	f.StringVar(&mems, "cpuset-mems", "", "Memory nodes")
	cmd.RunE = func(_ *cobra.Command, a []string) error {
		r, err := g.load(a[0])
		if err != nil {
			return err
		}
		if r.Status == specs.StateStopped {
			return fmt.Errorf("container %q is not running", a[0])
		}
		res := &specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{Cpus: cpus, Mems: mems}}
		if file != "" {
			if res, err = readResources(file); err != nil {
				return err
			}
		} else {
			set(&res.Memory.Limit, memory, f.Changed("memory"))
			set(&res.Memory.Reservation, reservation, f.Changed("memory-reservation"))
			set(&res.Memory.Swap, swap, f.Changed("memory-swap"))
			set(&res.CPU.Quota, quota, f.Changed("cpu-quota"))
			set(&res.CPU.Period, period, f.Changed("cpu-period"))
			set(&res.CPU.Shares, shares, f.Changed("cpu-share"))
			if f.Changed("pids-limit") {
				res.Pids = &specs.LinuxPids{Limit: &pids}
			}
		}
		limits, err := cgroup.Resources(res)
		if err != nil {
			return err
		}
		m, err := r.manager()
		if err != nil {
			return err
		}
		return m.Set(limits)
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
