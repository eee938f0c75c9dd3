package ocispec

import (
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// mounts are the standard file systems, then the user's. A mount of the user at
// a standard place (--tmpfs /dev/shm) replaces it.
func mounts(in Input) []specs.Mount {
	hc := in.HostConfig
	sys := []string{"nosuid", "noexec", "nodev"}
	if !hc.Privileged {
		sys = append(sys, "ro")
	}
	cg := slices.Clone(sys)
	if sec, err := ParseSecurity(hc.SecurityOpt); err == nil && sec.WritableCgroups != nil && *sec.WritableCgroups {
		cg = []string{"nosuid", "noexec", "nodev"}
	}
	std := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: sys},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: cg},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	if hc.PidMode.IsHost() && hc.Privileged {
		std[0].Options = []string{"nosuid", "noexec", "nodev"}
	}
	if in.ShmPath != "" {
		std = append(std, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: in.ShmPath, Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}})
	} else if !hc.IpcMode.IsNone() {
		std = append(std, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(hc.ShmSize, 10)}})
	}
	own := make(map[string]bool, len(in.Mounts))
	for _, m := range in.Mounts {
		own[m.Destination] = true
	}
	out := slices.DeleteFunc(std, func(m specs.Mount) bool { return own[m.Destination] })
	return append(out, in.Mounts...)
}

// rootPropagation is what the root's propagation must at least be, so that a
// mount with shared or slave propagation below it can be connected to the host.
func rootPropagation(ms []specs.Mount) string {
	prop := ""
	for _, m := range ms {
		for _, o := range m.Options {
			switch strings.TrimPrefix(o, "r") {
			case "shared":
				return "shared"
			case "slave":
				prop = "rslave"
			}
		}
	}
	return prop
}
