package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/sys/cgroup"
)

// makeCgroup makes the container's directories, by controller, with its limits.
func makeCgroup(s *specs.Spec, path string) (map[string]string, error) {
	host, err := cgroup.Discover()
	if err != nil {
		return nil, err
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
		return nil, err
	}
	dirs, err := host.Make(path)
	if err != nil {
		return nil, err
	}
	if err := limit(path, dirs, limits, res); err != nil {
		return nil, errors.Join(fmt.Errorf("cgroup %s: %w", path, err), cgroup.Destroy(dirs))
	}
	return dirs, nil
}

func limit(path string, dirs map[string]string, limits *cgroups.Resources, res *specs.LinuxResources) error {
	m, err := cgroup.Manager(path, dirs, false, limits)
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
