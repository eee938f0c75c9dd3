package runtime_test

import (
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime"
)

func ptrTo[T any](v T) *T { return &v }

// What a configuration says of its process is what the kernel says of it.
func TestProcessAttributes(t *testing.T) {
	init, root := initFile(t), rootfs(t)
	for name, tt := range map[string]struct {
		change  func(*specs.Spec)
		command string
		want    string
	}{
		"umask":            {func(s *specs.Spec) { s.Process.User.Umask = ptrTo(uint32(0o027)) }, "umask", "0027"},
		"umask by default": {func(*specs.Spec) {}, "umask", "0022"},
		"groups":           {func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{7, 3000000000} }, "id -G", "0 7 3000000000"},
		"no groups":        {func(*specs.Spec) {}, "grep Groups: /proc/self/status", "Groups:"},
		"user":             {func(s *specs.Spec) { s.Process.User.UID, s.Process.User.GID = 4000000000, 1001 }, "id -u; id -g", "4000000000\n1001"},
		"32 bits":          {func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32} }, "cat /proc/self/personality; uname -m", "00000008\ni686"},
		"64 bits":          {func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux} }, "cat /proc/self/personality", "00000000"},
		"batch":            {func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5} }, "cut -d' ' -f19,41 /proc/self/stat", "5 3"},
		"round robin":      {func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedRR, Priority: 9} }, "cut -d' ' -f40,41 /proc/self/stat", "9 2"},
		"idle io":          {func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE} }, "ionice", "idle"},
		"io": {func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
		}, "ionice", "best-effort: prio 6"},
		"oom score": {func(s *specs.Spec) { s.Process.OOMScoreAdj = ptrTo(321) }, "cat /proc/self/oom_score_adj", "321"},
		"limit": {func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_STACK", Soft: 1 << 20, Hard: 1 << 22}}
		}, "ulimit -Ss; ulimit -Hs", "1024\n4096"},
		"no new privileges": {func(s *specs.Spec) { s.Process.NoNewPrivileges = true }, "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status", "NoNewPrivs:\t1\nSeccomp:\t2"},
		"domain name":       {func(s *specs.Spec) { s.Domainname = "example.org" }, "cat /proc/sys/kernel/domainname", "example.org"},
		"net setting":       {func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"} }, "cat /proc/sys/net/ipv4/ip_forward", "1"},
		"net with slashes":  {func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net/ipv4/conf/lo/forwarding": "1"} }, "cat /proc/sys/net/ipv4/conf/lo/forwarding", "1"},
		"ipc setting": {func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"kernel.shm_rmid_forced": "1", "kernel.msgmax": "9000"}
		}, "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/kernel/msgmax", "1\n9000"},
		"mqueue setting": {func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"fs.mqueue.msg_max": "33"} }, "cat /proc/sys/fs/mqueue/msg_max", "33"},
		"uts setting":    {func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.domainname": "other"} }, "cat /proc/sys/kernel/domainname", "other"},
	} {
		s := configuration(t, root, "sh", "-c", tt.command)
		tt.change(s)
		res := run(t, init, s, runtime.Options{})
		got := strings.ReplaceAll(strings.TrimSpace(res.out), "\t\n", "\n")
		if res.err != nil || got != tt.want {
			t.Errorf("%s: error %v, output %q, want %q", name, res.err, res.out, tt.want)
		}
	}
	if b := readFile(t, "/proc/sys/kernel/domainname"); strings.Contains(b, "other") || strings.Contains(b, "example") {
		t.Error("the host's domain name was changed: ", b)
	}
}

// What the host withholds is an error that names it; nothing is left out in silence.
func TestWithheldByTheHost(t *testing.T) {
	if host, _ := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0); host == 1 {
		t.Skip("the host grants CAP_SYS_RESOURCE: nothing is withheld")
	}
	init, root := initFile(t), rootfs(t)
	var nofile unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &nofile); err != nil {
		t.Fatal(err)
	}
	for text, change := range map[string]func(*specs.Spec){
		"ulimit nofile: the host withholds CAP_SYS_RESOURCE": func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: nofile.Max + 1, Hard: nofile.Max + 1}}
		},
		"oom score -999: the host withholds CAP_SYS_RESOURCE": func(s *specs.Spec) { s.Process.OOMScoreAdj = ptrTo(-999) },
		"CAP_SYS_RESOURCE: the host withholds": func(s *specs.Spec) {
			s.Process.Capabilities.Bounding = append([]string{"CAP_SYS_RESOURCE"}, dockerCaps...)
		},
	} {
		s := configuration(t, root, "true")
		change(s)
		if res := run(t, init, s, runtime.Options{}); res.err == nil || !strings.Contains(res.err.Error(), text) {
			t.Errorf("error %v, want %q", res.err, text)
		}
	}
	s := configuration(t, root, "sh", "-c", "grep CapPrm /proc/self/status")
	all := runtime.CapabilityNames()
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Permitted: all, Effective: all}
	res := run(t, init, s, runtime.Options{CapPolicy: runtime.CapsAvailable})
	if res.err != nil || len(res.warn) != 1 || !strings.Contains(res.warn[0], "CAP_SYS_RESOURCE") || !strings.Contains(res.out, "1fffeffffff") {
		t.Errorf("all that there is: error %v, warnings %q, output %q", res.err, res.warn, res.out)
	}
}

// Settings that belong to the host, or to a namespace that the container shares with it, are refused.
func TestSettingsOfTheHost(t *testing.T) {
	without := func(s *specs.Spec, kind specs.LinuxNamespaceType) {
		var left []specs.LinuxNamespace
		for _, n := range s.Linux.Namespaces {
			if n.Type != kind {
				left = append(left, n)
			}
		}
		s.Linux.Namespaces = left
	}
	for _, tt := range []struct{ key, without string }{
		{"kernel.panic", ""}, {"vm.swappiness", ""}, {"fs.file-max", ""}, {"kernel.hostname", ""}, {"kernel.core_pattern", ""},
		{"kernel.ns_last_pid", ""}, {"user.max_user_namespaces", ""}, {"net.ipv4.ip_forward", "network"}, {"kernel.shmmax", "ipc"},
		{"fs.mqueue.msg_max", "ipc"}, {"kernel.domainname", "uts"}, {"net/../kernel/panic", ""}, {"", ""}, {"net", ""},
	} {
		s := configuration(t, "/nowhere", "true")
		s.Hostname = ""
		without(s, specs.LinuxNamespaceType(tt.without))
		s.Linux.Sysctl = map[string]string{tt.key: "1"}
		if _, err := runtime.Compile(s, runtime.Options{}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "sysctl") {
			t.Errorf("%q without %q: error %v", tt.key, tt.without, err)
		}
	}
	init, root := initFile(t), rootfs(t)
	s := configuration(t, root, "true")
	s.Linux.Sysctl = map[string]string{"net.ipv4.no_such": "1"}
	if res := run(t, init, s, runtime.Options{}); res.err == nil || !strings.Contains(res.err.Error(), "net/ipv4/no_such") {
		t.Errorf("one that does not exist: %v", res.err)
	}
}

// A label that the kernel cannot apply is an error; the process must not run without.
func TestLabelsWithoutTheirModule(t *testing.T) {
	if b, err := os.ReadFile("/proc/self/attr/current"); err == nil && len(b) > 1 {
		t.Skip("a security module that labels processes is enabled")
	}
	init, root := initFile(t), rootfs(t)
	for text, change := range map[string]func(*specs.Spec){
		`SELinux label "system_u:system_r:container_t:s0": the kernel does not take it`: func(s *specs.Spec) { s.Process.SelinuxLabel = "system_u:system_r:container_t:s0" },
		`AppArmor profile "exec docker-default": the kernel does not take it`:           func(s *specs.Spec) { s.Process.ApparmorProfile = "docker-default" },
		"context": func(s *specs.Spec) { s.Linux.MountLabel = "system_u:object_r:container_file_t:s0" },
	} {
		s := configuration(t, root, "true")
		change(s)
		if res := run(t, init, s, runtime.Options{}); res.err == nil || !strings.Contains(res.err.Error(), text) {
			t.Errorf("error %v, want %q", res.err, text)
		}
	}
}
