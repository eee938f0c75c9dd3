package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/cgroup"
)

func (g *globals) start(id string) error {
	r, err := g.load(id)
	if err != nil {
		return err
	}
	if r.Status != specs.StateCreated {
		return fmt.Errorf("cannot start container %q: it is %s, not created", id, r.Status)
	}
	dir, _ := g.dir(id)
	gate := filepath.Join(dir, "gate")
	fd, err := unix.Open(gate, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("starting container %q: its first process does not wait any more: %w", id, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte{1}); err != nil {
		return err
	}
	if err := os.Remove(gate); err != nil {
		return err
	}
	if r.Hooks == nil || len(r.Hooks.Poststart) == 0 {
		return nil
	}
	r.awaitExec()
	for _, h := range r.Hooks.Poststart {
		if err := runHook(h, r.at(specs.StateRunning)); err != nil {
			warn("poststart " + err.Error())
		}
	}
	return nil
}

func startCommand(g *globals) *cobra.Command {
	return &cobra.Command{Use: "start ID", Short: "Start a created container", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, a []string) error { return g.start(a[0]) }}
}

func runCommand(g *globals) *cobra.Command {
	o := &createOptions{}
	detach := false
	cmd := &cobra.Command{Use: "run ID", Short: "Create, start, wait for and delete a container", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, a []string) error {
		r, err := g.create(a[0], o)
		if err != nil {
			return err
		}
		if err := g.start(a[0]); err != nil || detach {
			return err
		}
		var st unix.WaitStatus
		if _, err := unix.Wait4(r.Pid, &st, 0, nil); err != nil {
			return err
		}
		if err := g.delete(a[0], true); err != nil {
			return err
		}
		code := st.ExitStatus()
		if st.Signaled() {
			code = 128 + int(st.Signal())
		}
		os.Exit(code)
		return nil
	}}
	createFlags(cmd, o)
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "Do not wait")
	return cmd
}

func stateCommand(g *globals) *cobra.Command {
	return &cobra.Command{Use: "state ID", Short: "Print a container's state", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, a []string) error {
		r, err := g.load(a[0])
		if err != nil {
			return err
		}
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(r.State)
	}}
}

func killCommand(g *globals) *cobra.Command {
	all := false
	cmd := &cobra.Command{Use: "kill ID [SIGNAL]", Short: "Send a signal", Args: cobra.RangeArgs(1, 2), RunE: func(_ *cobra.Command, a []string) error {
		r, err := g.load(a[0])
		if err != nil {
			return err
		}
		sig := unix.SIGTERM
		if len(a) == 2 {
			if sig, err = parseSignal(a[1]); err != nil {
				return err
			}
		}
		if r.Status == specs.StateStopped && !all {
			return fmt.Errorf("container %q is not running", a[0])
		}
		if all {
			return killAll(r, sig)
		}
		return kill(r, sig)
	}}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Send it to every process in the container")
	return cmd
}

func parseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 65 {
		return unix.Signal(n), nil
	}
	if sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("signal %q is not known", s)
}

func (g *globals) delete(id string, force bool) error {
	r, err := g.load(id)
	if err != nil {
		return err
	}
	if r.Status != specs.StateStopped && !force {
		return fmt.Errorf("cannot delete container %q: it is %s, not stopped: kill it first or use --force", id, r.Status)
	}
	if r.Status == statePaused {
		if err := r.freeze(cgroups.Thawed); err != nil {
			return err
		}
	}
	if r.Status != specs.StateStopped {
		if err := kill(r, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	if err := cgroup.Destroy(r.Cgroup); err != nil {
		return err
	}
	dir, _ := g.dir(id)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	poststop(r)
	return nil
}

func deleteCommand(g *globals) *cobra.Command {
	force := false
	cmd := &cobra.Command{Use: "delete ID", Short: "Delete a stopped container", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, a []string) error {
		if dir, err := g.dir(a[0]); err != nil {
			return err
		} else if _, err := os.Stat(dir); os.IsNotExist(err) && force {
			return nil
		}
		return g.delete(a[0], force)
	}}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Kill it first if it runs")
	return cmd
}
