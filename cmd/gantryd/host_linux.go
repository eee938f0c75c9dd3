package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/service/containers/ocispec/facts"
)

// hostFacts looks what the kernel and its set-up offer to containers.
func hostFacts() facts.Host {
	h := facts.Host{CPUs: runtime.NumCPU(), KernelVersion: firstLine("/proc/sys/kernel/osrelease")}
	if f := strings.Fields(field("/proc/meminfo", "MemTotal")); len(f) > 0 {
		kb, _ := strconv.ParseInt(f[0], 10, 64)
		h.Memory = kb << 10
	}
	h.CapBounding, _ = strconv.ParseUint(field("/proc/self/status", "CapBnd"), 16, 64)
	h.Seccomp = field("/proc/self/status", "Seccomp") != ""
	h.AppArmor = firstLine("/sys/module/apparmor/parameters/enabled") == "Y"
	h.SELinux = there("/sys/fs/selinux/enforce")
	h.RecursiveReadOnly = kernelAtLeast(h.KernelVersion, 5, 12)
	if there("/sys/fs/cgroup/cgroup.controllers") {
		controllersV2(&h)
	} else {
		controllersV1(&h)
	}
	return h
}

func controllersV2(h *facts.Host) {
	h.CgroupV2 = true
	for _, c := range strings.Fields(firstLine("/sys/fs/cgroup/cgroup.controllers")) {
		switch c {
		case "memory":
			h.MemoryLimit, h.SwapLimit, h.MemoryReservation = true, true, true
		case "cpu":
			h.CPUShares, h.CPUCfs = true, true
		case "cpuset":
			h.Cpuset = true
		case "pids":
			h.PidsLimit = true
		case "io":
			h.BlkioWeight, h.BlkioThrottle = true, true
		}
	}
}

func controllersV1(h *facts.Host) {
	in := func(f string) bool { return there(filepath.Join("/sys/fs/cgroup", f)) }
	h.MemoryLimit, h.SwapLimit = in("memory/memory.limit_in_bytes"), in("memory/memory.memsw.limit_in_bytes")
	h.MemoryReservation = in("memory/memory.soft_limit_in_bytes")
	h.OomKillDisable, h.Swappiness = in("memory/memory.oom_control"), in("memory/memory.swappiness")
	h.CPUShares, h.CPUCfs, h.CPURealtime = in("cpu/cpu.shares"), in("cpu/cpu.cfs_quota_us"), in("cpu/cpu.rt_runtime_us")
	h.Cpuset, h.PidsLimit = in("cpuset/cpuset.cpus"), in("pids/cgroup.procs")
	h.BlkioWeight = in("blkio/blkio.weight") || in("blkio/blkio.bfq.weight")
	h.BlkioThrottle = in("blkio/blkio.throttle.read_bps_device")
}

// filesystem names the file system under path, as Docker does: extfs, xfs, btrfs, …
func filesystem(path string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return "<unknown>"
	}
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "extfs", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
		unix.F2FS_SUPER_MAGIC: "f2fs", unix.NFS_SUPER_MAGIC: "nfs", unix.ECRYPTFS_SUPER_MAGIC: "ecryptfs", 0x2fc12fc1: "zfs", 0x3434: "nilfs",
	}
	if name := names[int64(st.Type)]; name != "" {
		return name
	}
	return fmt.Sprintf("<unknown> (%#x)", st.Type)
}

func there(path string) bool { _, err := os.Stat(path); return err == nil }

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// field finds "name: value" in a file of /proc.
func field(path, name string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && k == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func kernelAtLeast(release string, major, minor int) bool {
	parts := strings.FieldsFunc(release, func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) < 2 {
		return false
	}
	a, _ := strconv.Atoi(parts[0])
	b, _ := strconv.Atoi(parts[1])
	return a > major || a == major && b >= minor
}
