package runtime_test

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/runtime"
)

// What cannot be done is refused by name, for a container and for an exec; nothing is ignored.
func TestCompileRefuses(t *testing.T) {
	type change func(*specs.Spec)
	tests := []struct {
		name, text string
		is         func(error) bool
		change     change
	}{
		{"rdt", "linux.intelRdt", errdefs.IsNotImplemented, func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} }},
		{"memory policy", "linux.memoryPolicy", errdefs.IsNotImplemented, func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind} }},
		{"net devices", "linux.netDevices", errdefs.IsNotImplemented, func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth0": {}} }},
		{"exec affinity", "process.execCPUAffinity", errdefs.IsNotImplemented, func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0"} }},
		{"no arguments", "process.args", errdefs.IsInvalidArgument, func(s *specs.Spec) { s.Process.Args = nil }},
		{"zero byte", "zero bytes", errdefs.IsInvalidArgument, func(s *specs.Spec) { s.Process.Args = []string{"a\x00b"} }},
		{"capability", "CAP_NOSUCH", errdefs.IsInvalidArgument, func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_NOSUCH"} }},
		{"rlimit", "RLIMIT_NOSUCH", errdefs.IsInvalidArgument, func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOSUCH"}} }},
		{"soft above hard", "above the hard limit", errdefs.IsInvalidArgument, func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 2, Hard: 1}} }},
		{"scheduler", "SCHED_NOSUCH", errdefs.IsInvalidArgument, func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_NOSUCH"} }},
	}
	for _, tt := range tests {
		for _, exec := range []bool{false, true} {
			s := configuration(t, "/nowhere", "true")
			tt.change(s)
			if _, err := runtime.Compile(s, runtime.Options{Exec: exec}); err == nil || !tt.is(err) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s, exec %v: error %v, want one about %q", tt.name, exec, err, tt.text)
			}
		}
	}
	container := []struct {
		name, text string
		change     change
	}{
		{"no mount namespace", "mount namespace", func(s *specs.Spec) { s.Linux.Namespaces = nil; s.Hostname = "" }},
		{"namespace twice", "given twice", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "pid"})
		}},
		{"relative namespace", "not absolute", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user", Path: "proc/1/ns/user"})
		}},
		{"user namespace without maps", "uidMappings", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user"})
		}},
		{"host sysctl", "kernel.panic", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.panic": "1"} }},
		{"climbing sysctl", "no name of a setting", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net/../kernel/panic": "1"} }},
		{"time offsets alone", "no time namespace", func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}} }},
		{"propagation", "rootfsPropagation", func(s *specs.Spec) { s.Linux.RootfsPropagation = "sideways" }},
		{"mount inside proc", "inside /proc", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev/../proc/sys", Type: "bind", Source: "/tmp"})
		}},
		{"copy-up of proc", "tmpcopyup", func(s *specs.Spec) { s.Mounts[0].Options = append(s.Mounts[0].Options, "tmpcopyup") }},
	}
	for _, tt := range container {
		s := configuration(t, "/nowhere", "true")
		tt.change(s)
		if _, err := runtime.Compile(s, runtime.Options{}); err == nil || !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: error %v, want one about %q", tt.name, err, tt.text)
		}
	}
}
