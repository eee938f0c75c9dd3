package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime/spawn"
)

// start opens the gate and returns when the user's program runs, or with what kept it from running.
func (g *globals) start(id string) error {
	r, err := g.load(id)
	if err != nil {
		return err
	}
	if r.Status != specs.StateCreated {
		return fmt.Errorf("cannot start container %q: it is %s, not created", id, r.Status)
	}
	dir, _ := g.dir(id)
	if err := r.openGate(dir); err != nil {
		// What cannot run must not stay half made: it is stopped, and can be deleted.
		_ = kill(r, unix.SIGKILL)
		for r.alive() {
			time.Sleep(time.Millisecond)
		}
		return fmt.Errorf("starting container %q: %w", id, err)
	}
	if r.Hooks == nil {
		return nil
	}
	for _, h := range r.Hooks.Poststart {
		if err := runHook(context.Background(), h, r.at(specs.StateRunning)); err != nil {
			warn("poststart " + err.Error())
		}
	}
	return nil
}

func (r *record) openGate(dir string) error {
	report, err := os.OpenFile(filepath.Join(dir, "report"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer report.Close()
	path := filepath.Join(dir, "gate")
	gate, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("its first process does not wait any more: %w", err)
	}
	defer unix.Close(gate)
	if err := os.Remove(path); err != nil { // of two starts at a time, one succeeds
		return err
	}
	if _, err := unix.Write(gate, []byte{1}); err != nil {
		return err
	}
	return spawn.ReadReport(report, warn)
}

func startCommand(g *globals) *cobra.Command {
	return &cobra.Command{Use: "start ID", Short: "Start a created container", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, a []string) error { return g.start(a[0]) }}
}

type runOptions struct {
	createOptions
	keepIt, noReaper bool
}

func runCommand(g *globals) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{Use: "run ID", Short: "Create, start, wait for and delete a container", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, a []string) error {
		return g.run(a[0], o)
	}}
	createFlags(cmd, &o.createOptions)
	f := cmd.Flags()
	f.BoolVarP(&o.detach, "detach", "d", false, "Do not wait")
	f.BoolVar(&o.keepIt, "keep", false, "Do not delete the container when it ends")
	f.BoolVar(&o.noReaper, "no-subreaper", false, "Do not reap what processes of the container leave behind")
	return cmd
}

func (g *globals) run(id string, o *runOptions) (err error) {
	var front *foreground
	if !o.detach {
		front = newForeground()
		o.front = front
	}
	r, err := g.create(id, &o.createOptions)
	if err != nil {
		return err
	}
	defer func() {
		var code exitCode
		if err != nil && !errors.As(err, &code) || !o.detach && !o.keepIt {
			if derr := g.delete(id, true); derr != nil {
				err = errors.Join(err, derr)
			}
		}
	}()
	if o.detach {
		return g.start(id)
	}
	if !o.noReaper {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("becoming a subreaper: %w", err)
		}
	}
	if err := front.open(); err != nil {
		return err
	}
	defer front.close()
	if err := g.start(id); err != nil {
		reap(r.Pid, false)
		return err
	}
	code, err := front.wait(r.Pid, !o.noReaper)
	if err != nil {
		return err
	}
	return exitCode(code)
}

// shown is a container as state and list print it.
type shown struct {
	specs.State
	Rootfs  string    `json:"rootfs"`
	Created time.Time `json:"created"`
	Owner   string    `json:"owner"`
}

func (g *globals) show(r *record) shown {
	v := shown{State: r.State, Rootfs: r.Rootfs, Created: r.Created}
	var st unix.Stat_t
	if dir, err := g.dir(r.ID); err == nil && unix.Stat(dir, &st) == nil {
		v.Owner = strconv.Itoa(int(st.Uid))
		if u, err := user.LookupId(v.Owner); err == nil {
			v.Owner = u.Username
		}
	}
	return v
}

func stateCommand(g *globals) *cobra.Command {
	return &cobra.Command{Use: "state ID", Short: "Print a container's state", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, a []string) error {
		r, err := g.load(a[0])
		if err != nil {
			return err
		}
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(g.show(r))
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
		if r.Pid == 0 && !all {
			return fmt.Errorf("%w (%q)", errNotRunning, a[0])
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
	dir, err := g.dir(id)
	if err != nil {
		return err
	}
	r, err := g.load(id)
	if err != nil {
		if force { // what is left of a create that was killed at its very start is not a container
			return os.RemoveAll(dir)
		}
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
	if r.Status != specs.StateStopped && r.Pid != 0 {
		if err := kill(r, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, errNotRunning) {
			return err
		}
	}
	if err := r.destroyCgroup(); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	poststop(context.Background(), r)
	return nil
}

func deleteCommand(g *globals) *cobra.Command {
	force := false
	cmd := &cobra.Command{Use: "delete ID", Short: "Delete a stopped container", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, a []string) error {
		return g.delete(a[0], force)
	}}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Kill it first if it runs; one that does not exist is no error")
	return cmd
}
