package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"github.com/spf13/cobra"

	"github.com/gantry-engine/gantry/internal/version"
	"github.com/gantry-engine/gantry/runtime"
)

func listCommand(g *globals) *cobra.Command {
	quiet, format := false, ""
	cmd := &cobra.Command{Use: "list", Short: "List containers", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		entries, err := os.ReadDir(g.root)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		all := []shown{}
		for _, e := range entries {
			if r, err := g.load(e.Name()); err == nil {
				all = append(all, g.show(r))
			}
		}
		switch {
		case quiet:
			for _, l := range all {
				fmt.Println(l.ID)
			}
			return nil
		case format == "json":
			return json.NewEncoder(os.Stdout).Encode(all)
		case format == "table":
			w := tabwriter.NewWriter(os.Stdout, 12, 1, 3, ' ', 0)
			fmt.Fprintln(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER")
			for _, l := range all {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", l.ID, l.Pid, l.Status, l.Bundle, l.Created.Format(time.RFC3339Nano), l.Owner)
			}
			return w.Flush()
		}
		return fmt.Errorf("format %q is not known: table or json", format)
	}}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print only ids")
	cmd.Flags().StringVarP(&format, "format", "f", "table", "table or json")
	return cmd
}

func featuresCommand() *cobra.Command {
	return &cobra.Command{Use: "features", Short: "Print what is supported", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return encode(os.Stdout, supported())
	}}
}

func supported() *features.Features {
	yes, no := true, false
	acts := func(l ...specs.LinuxSeccompAction) []string { return texts(l) }
	return &features.Features{
		OCIVersionMin: "1.0.0", OCIVersionMax: specs.Version,
		Hooks:        []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		MountOptions: runtime.MountOptions(),
		Linux: &features.Linux{
			Namespaces:   []string{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"},
			Capabilities: runtime.CapabilityNames(),
			Cgroup:       &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &no, Rdma: &yes},
			Seccomp: &features.Seccomp{Enabled: &yes,
				Actions: acts(specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActLog, specs.ActNotify, specs.ActTrace, specs.ActTrap),
				Operators: texts([]specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpLessEqual, specs.OpLessThan,
					specs.OpMaskedEqual, specs.OpNotEqual}),
				Archs: texts([]specs.Arch{specs.ArchAARCH64, specs.ArchARM, specs.ArchX32, specs.ArchX86, specs.ArchX86_64}),
			},
			Apparmor:        &features.Apparmor{Enabled: &yes},
			Selinux:         &features.Selinux{Enabled: &yes},
			IntelRdt:        &features.IntelRdt{Enabled: &no},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
			NetDevices:      &features.NetDevices{Enabled: &no},
		},
		Annotations: map[string]string{"dev.gantry.version": version.Version, "dev.gantry.commit": version.Commit},
	}
}

func texts[T ~string](l []T) []string {
	out := make([]string, len(l))
	for i := range l {
		out[i] = string(l[i])
	}
	return out
}

func encode(w *os.File, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(v)
}

func specCommand() *cobra.Command {
	bundle, rootless := "", false
	cmd := &cobra.Command{Use: "spec", Short: "Write a config.json to start from", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) (err error) {
		path := filepath.Join(bundle, "config.json")
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if os.IsExist(err) {
			return fmt.Errorf("%s exists: remove it first", path)
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		s := defaultSpec()
		if rootless {
			forUser(s, os.Geteuid(), os.Getegid())
		}
		return encode(f, s)
	}}
	cmd.Flags().BoolVar(&rootless, "rootless", false, "For a container in a user namespace in which only the caller is mapped")
	cmd.Flags().StringVarP(&bundle, "bundle", "b", ".", "Path to the bundle")
	return cmd
}

func defaultSpec() *specs.Spec {
	caps := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	quiet := []string{"nosuid", "noexec", "nodev"}
	return &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{Terminal: true, Args: []string{"sh"}, Cwd: "/", NoNewPrivileges: true,
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1024, Soft: 1024}}},
		Root:     &specs.Root{Path: "rootfs", Readonly: true},
		Hostname: "gantry",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: append(quiet[:3:3], "mode=1777", "size=65536k")},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: quiet},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: append(quiet[:3:3], "ro")},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: append(quiet[:3:3], "relatime", "ro")},
		},
		Linux: &specs.Linux{
			Resources:  &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}},
			Namespaces: []specs.LinuxNamespace{{Type: "pid"}, {Type: "network"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}, {Type: "cgroup"}},
			MaskedPaths: []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
				"/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

// forUser changes a configuration to one user namespace with one user, root inside: no network of its own, no
// resources, the host's /sys bound, and no group for terminals.
func forUser(s *specs.Spec, uid, gid int) {
	l := s.Linux
	l.Resources = nil
	l.Namespaces = slices.DeleteFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	l.UIDMappings = []specs.LinuxIDMapping{{HostID: uint32(uid), Size: 1}}
	l.GIDMappings = []specs.LinuxIDMapping{{HostID: uint32(gid), Size: 1}}
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/sys" || m.Destination == "/sys/fs/cgroup" })
	for i := range s.Mounts {
		s.Mounts[i].Options = slices.DeleteFunc(s.Mounts[i].Options, func(o string) bool { return o == "gid=5" })
	}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys", Type: "none", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"}})
}
