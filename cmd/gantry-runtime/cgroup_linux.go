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

	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/cgroup"
)

const statePaused specs.ContainerState = "paused"

func (r *record) manager() (cgroups.Manager, error) {
	return cgroup.Manager(r.Path, r.Cgroup, r.Systemd, nil)
}

func (r *record) destroyCgroup() error {
	if r.Systemd {
		return cgroup.DestroyScope(r.Path, r.Cgroup)
	}
	return cgroup.Destroy(r.Cgroup)
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

// killAll signals every process in the container's cgroup. They are frozen meanwhile, so that none
// escapes by forking.
func killAll(r *record, sig unix.Signal) error {
	m, err := r.manager()
	if err != nil {
		return err
	}
	if r.Status == specs.StateRunning && m.Freeze(cgroups.Frozen) == nil {
		defer func() { _ = m.Freeze(cgroups.Thawed) }()
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
