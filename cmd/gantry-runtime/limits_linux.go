package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/kit/sibling"
	"github.com/gantry-engine/gantry/internal/sys/cgroup"
	"github.com/gantry-engine/gantry/runtime"
)

// makeCgroup makes the container's directories, by controller, with its limits. When its process waits inside, inside is to
// be called: it sets the limit of processes, of which gantry-init needs more than many a program. Release is
// to be called whatever becomes of it.
func makeCgroup(s *specs.Spec, r *record) (inside func() error, release func(), err error) {
	host, err := cgroup.Discover()
	if err != nil {
		return nil, nil, err
	}
	res := &specs.LinuxResources{}
	if s.Linux != nil && s.Linux.Resources != nil {
		res = s.Linux.Resources
	}
	if len(res.Devices) == 0 { // a configuration that says nothing about devices allows those that every container has
		c := *res
		c.Devices = []specs.LinuxDeviceCgroup{{Access: "rwm"}}
		res = &c
	}
	limits, err := cgroup.Resources(res)
	if err != nil {
		return nil, nil, err
	}
	pids := limits.PidsLimit
	limits.PidsLimit = nil
	release = func() {}
	if r.Systemd {
		release, err = makeScope(r)
	} else {
		r.Cgroup, err = host.Make(r.Path)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := limit(r, limits, res); err != nil {
		release()
		return nil, nil, errors.Join(fmt.Errorf("cgroup %s: %w", r.Path, err), r.destroyCgroup())
	}
	inside = func() error {
		release()
		if pids == nil {
			return nil
		}
		only := &cgroups.Resources{PidsLimit: pids, SkipDevices: true}
		m, err := cgroup.Manager(r.Path, r.Cgroup, r.Systemd, only)
		if err == nil {
			err = m.Set(only)
		}
		if err != nil {
			return fmt.Errorf("cgroup %s: %w", r.Path, err)
		}
		return nil
	}
	return inside, release, nil
}

// makeScope has systemd make what cgroupsPath names in its form slice:prefix:name, or gantry-<id> in system.slice.
func makeScope(r *record) (release func(), err error) {
	if err := cgroup.CheckSystemd(); err != nil {
		return nil, err
	}
	if r.Path == "/gantry/"+r.ID {
		r.Path = "system.slice:gantry:" + r.ID
	}
	scope, err := cgroup.ParseScope(r.Path)
	if err != nil {
		return nil, err
	}
	if r.Path, err = scope.Path(); err != nil {
		return nil, err
	}
	r.Cgroup, release, err = scope.Make([]string{sibling.Path("gantry-init"), "hold"})
	return release, err
}

func limit(r *record, limits *cgroups.Resources, res *specs.LinuxResources) error {
	dirs := r.Cgroup
	m, err := cgroup.Manager(r.Path, dirs, r.Systemd, limits)
	if err != nil {
		return err
	}
	if dirs["devices"] != "" {
		// Cgroup v1 lists rules as they were written, and the library sorts what it is given at once.
		for i := range res.Devices {
			if err := m.Set(&cgroups.Resources{Devices: limits.Devices[:i+1]}); err != nil {
				return err
			}
		}
	}
	if err := m.Set(limits); err != nil {
		return err
	}
	return kernelMemory(dirs, res.Memory)
}

// shownCgroups is what the container sees below its mount of type cgroup: a folder per hierarchy, and links for
// controllers that share one ("cpu" to "cpu,cpuacct").
func shownCgroups(dirs map[string]string, path string) (out []runtime.CgroupDir) {
	if dir := dirs[""]; dir != "" {
		return []runtime.CgroupDir{{Dir: dir}}
	}
	at := map[string]int{}
	for _, controller := range slices.Sorted(maps.Keys(dirs)) {
		dir, name := dirs[controller], strings.TrimPrefix(controller, "name=")
		i, there := at[dir]
		if !there {
			i = len(out)
			at[dir] = i
			out = append(out, runtime.CgroupDir{Dir: dir, Name: filepath.Base(strings.TrimSuffix(dir, filepath.Clean("/"+path)))})
		}
		if name != out[i].Name {
			out[i].Link = append(out[i].Link, name)
		}
	}
	return out
}

// kernelMemory applies what the library leaves out.
func kernelMemory(dirs map[string]string, m *specs.LinuxMemory) error {
	if m == nil {
		return nil
	}
	//lint:ignore SA1019 deprecated, not gone
	if m.Kernel != nil && *m.Kernel > 0 {
		warn("linux.resources.memory.kernel is without effect: no supported kernel limits its own memory apart from the container's")
	}
	if m.KernelTCP == nil || *m.KernelTCP == 0 {
		return nil
	}
	dir := dirs["memory"]
	if dir == "" {
		return errors.New("linux.resources.memory.kernelTCP cannot be applied: only cgroup v1's memory controller knows it")
	}
	file := filepath.Join(dir, "memory.kmem.tcp.limit_in_bytes")
	if err := os.WriteFile(file, []byte(strconv.FormatInt(*m.KernelTCP, 10)), 0); err != nil {
		return fmt.Errorf("linux.resources.memory.kernelTCP: %w", err)
	}
	return nil
}
