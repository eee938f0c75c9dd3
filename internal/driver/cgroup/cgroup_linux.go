// Package cgroup gives containers their control groups: it implements the
// container service's ports Cgroups, Meters and OOMs for v1, v2 and hybrid hosts.
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
	sys "github.com/gantry-engine/gantry/internal/sys/cgroup"
)

// Driver makes cgroups, as directories or as systemd's scopes. What the other way has made it handles too.
type Driver struct {
	host    *sys.Host
	parent  string
	holder  []string // for systemd's scopes; nil means cgroupfs
	parents *parents
	mounts  []string // of the hierarchies
	spare   *spares
	ooms    sys.OOMs
}

// Config selects the driver.
type Config struct {
	Parent  string // default parent; empty is "/gantry"
	Systemd bool   // let systemd make scopes; the default parent is then system.slice
	Holder  string // gantry-init, which stands in for a scope's first process
	Notes   string // file, on tmpfs, of the parents that were made here; empty: they are not kept in mind
}

// New looks at the host. Without any hierarchy it fails and says what to mount.
func New(cfg Config) (*Driver, error) {
	host, err := sys.Discover()
	if err != nil {
		return nil, err
	}
	if cfg.Systemd {
		if err := sys.CheckSystemd(); err != nil {
			return nil, err
		}
		if cfg.Parent == "" {
			cfg.Parent = "system.slice"
		}
		if _, err := (sys.Scope{Slice: cfg.Parent}).Path(); err != nil {
			return nil, err
		}
	}
	if cfg.Parent == "" {
		cfg.Parent = "/gantry"
	}
	p, err := newParents(cfg.Notes)
	if err != nil {
		return nil, err
	}
	d := &Driver{host: host, parent: cfg.Parent, parents: p}
	if cfg.Systemd {
		d.holder = []string{cfg.Holder, "hold"}
	}
	for _, h := range host.Hierarchies {
		d.mounts = append(d.mounts, h.Mount)
	}
	d.spare = newSpares(d)
	return d, d.spare.sweep()
}

// Close removes the parents that were made here and have no container any more.
func (d *Driver) Close() error {
	d.spare.kept.Stop()
	return errors.Join(d.ooms.Close(), d.parents.remove(""))
}

// V2 tells whether the host has cgroup v2 only.
func (d *Driver) V2() bool { return d.host.V2 }

// Create makes the directories and writes the limits that are set.
func (d *Driver) Create(_ context.Context, container, parent string, r *specs.LinuxResources) (spec.Cgroup, error) {
	if parent == "" {
		parent = d.parent
	}
	if d.holder != nil {
		return d.createScope(container, parent, r)
	}
	for _, part := range strings.Split(parent, "/") {
		if part == ".." {
			return spec.Cgroup{}, fmt.Errorf("cgroup parent %q must not contain \"..\": %w", parent, errdefs.ErrInvalidArgument)
		}
	}
	res, err := sys.Resources(r)
	if err != nil {
		return spec.Cgroup{}, err
	}
	if !d.host.V2 && parent == d.parent {
		if cg, ok := d.spare.take(container, res); ok {
			failpoint.Hit("gantryd.cgroup-taken")
			return cg, nil
		}
	}
	return d.make(parent, container, res)
}

// make makes a cgroup's directories and sets its limits.
func (d *Driver) make(parent, name string, res *cgroups.Resources) (spec.Cgroup, error) {
	release, err := d.parents.hold(parent, d.mounts)
	if err != nil {
		return spec.Cgroup{}, err
	}
	defer release()
	cg := spec.Cgroup{Path: path.Join("/", parent, name)}
	if cg.Dirs, err = d.host.Make(cg.Path); err != nil {
		return spec.Cgroup{}, err
	}
	failpoint.Hit("gantryd.cgroup-made")
	if err := set(cg, res); err != nil {
		return spec.Cgroup{}, errors.Join(err, destroy(cg))
	}
	failpoint.Hit("gantryd.cgroup-set")
	return cg, nil
}

// set writes limits, unless there are none.
func set(cg spec.Cgroup, res *cgroups.Resources) error {
	if reflect.DeepEqual(res, &cgroups.Resources{SkipDevices: true}) {
		return nil
	}
	if err := sys.Check(cg.Dirs, res); err != nil {
		return err
	}
	m, err := sys.Manager(cg.Path, cg.Dirs, cg.Systemd, res)
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", cg.Path, err)
	}
	if err := m.Set(res); err != nil {
		return fmt.Errorf("cgroup %s: setting limits: %w", cg.Path, err)
	}
	return nil
}

// Update writes the limits that r sets.
func (d *Driver) Update(_ context.Context, cg spec.Cgroup, r *specs.LinuxResources) error {
	res, err := sys.Resources(r)
	if err != nil {
		return err
	}
	return set(cg, res)
}

// Freeze stops or continues all processes inside.
func (d *Driver) Freeze(_ context.Context, cg spec.Cgroup, frozen bool) error {
	m, err := sys.Manager(cg.Path, cg.Dirs, cg.Systemd, nil)
	if err != nil {
		return err
	}
	state := cgroups.Thawed
	if frozen {
		state = cgroups.Frozen
	}
	if err := m.Freeze(state); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cgroup %s is gone: %w", cg.Path, errdefs.ErrNotFound)
	} else if err != nil {
		return err
	}
	return nil
}

// Destroy kills what is left inside and removes the directories, and a parent that was made
// for the container. The default parent stays until Close: the next container needs it.
func (d *Driver) Destroy(_ context.Context, cg spec.Cgroup) error {
	if err := destroy(cg); err != nil {
		return err
	}
	if cg.Systemd {
		return nil
	}
	if parent := path.Dir(cg.Path); parent != path.Join("/", d.parent) {
		return d.parents.remove(parent)
	}
	return nil
}

// Sweep removes the empty directories of those containers below parent that unused tells: what a start
// has left that a killed daemon did not finish. Others' are not touched, nor what has processes.
func (d *Driver) Sweep(parent string, unused func(container string) bool) error {
	if d.holder != nil {
		return nil // systemd removes an empty scope by itself
	}
	if parent == "" {
		parent = d.parent
	}
	var errs []error
	for _, h := range d.host.Hierarchies {
		dir := filepath.Join(h.Mount, parent)
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if !e.IsDir() || !unused(e.Name()) {
				continue
			}
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func destroy(cg spec.Cgroup) error {
	if cg.Systemd {
		return sys.DestroyScope(cg.Path, cg.Dirs)
	}
	return sys.Destroy(cg.Dirs)
}

// Pids lists all processes inside, in sub-cgroups too.
func (d *Driver) Pids(_ context.Context, cg spec.Cgroup) ([]int, error) {
	dir := cg.Dirs[""]
	for _, c := range []string{"pids", "memory", "cpu"} {
		if dir == "" {
			dir = cg.Dirs[c]
		}
	}
	pids, err := cgroups.GetAllPids(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cgroup %s is gone: %w", cg.Path, errdefs.ErrNotFound)
	}
	return pids, err
}

// Read reads the counters.
func (d *Driver) Read(_ context.Context, cg spec.Cgroup) (containers.Usage, error) {
	m, err := sys.Manager(cg.Path, cg.Dirs, cg.Systemd, nil)
	if err != nil {
		return containers.Usage{}, err
	}
	s, err := m.GetStats()
	if err != nil {
		return containers.Usage{}, fmt.Errorf("cgroup %s: reading its counters: %w", cg.Path, err)
	}
	cpu, mem, thr := s.CpuStats.CpuUsage, s.MemoryStats, s.CpuStats.ThrottlingData
	u := containers.Usage{
		Read: time.Now(), CPUTotal: cpu.TotalUsage, CPUUser: cpu.UsageInUsermode, CPUSystem: cpu.UsageInKernelmode, PerCPU: cpu.PercpuUsage,
		Periods: thr.Periods, ThrottledPeriods: thr.ThrottledPeriods, ThrottledTime: thr.ThrottledTime,
		Memory: mem.Usage.Usage, MemoryMax: mem.Usage.MaxUsage, MemoryLimit: mem.Usage.Limit, MemoryFailcnt: mem.Usage.Failcnt, MemoryStats: mem.Stats,
		Pids: s.PidsStats.Current, PidsLimit: s.PidsStats.Limit, OnlineCPUs: runtime.NumCPU(), V2: d.host.V2,
		BlkioBytes: entries(s.BlkioStats.IoServiceBytesRecursive), BlkioOps: entries(s.BlkioStats.IoServicedRecursive),
		BlkioQueued: entries(s.BlkioStats.IoQueuedRecursive), BlkioService: entries(s.BlkioStats.IoServiceTimeRecursive),
	}
	u.OOMKills, _ = m.OOMKillCount()
	return u, nil
}

// Watch tells of processes that the kernel kills for want of memory.
func (d *Driver) Watch(_ context.Context, cg spec.Cgroup, struck func()) (containers.OOMWatch, error) {
	w, err := d.ooms.Watch(cg.Dirs, struck)
	if err != nil {
		return nil, fmt.Errorf("cgroup %s: %w", cg.Path, err)
	}
	return w, nil
}

func entries(l []cgroups.BlkioStatEntry) (out []containers.BlkioEntry) {
	for _, e := range l {
		out = append(out, containers.BlkioEntry{Major: e.Major, Minor: e.Minor, Op: e.Op, Value: e.Value})
	}
	return out
}

var (
	_ containers.Cgroups = (*Driver)(nil)
	_ containers.Meters  = (*Driver)(nil)
	_ containers.OOMs    = (*Driver)(nil)
)
