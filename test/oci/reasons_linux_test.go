package oci

import (
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// reason says why a program fails with gantry-runtime. A program without one, or with one that
// does not hold on this machine, must pass.
type reason struct {
	text  string
	holds func() bool // nil: it is in the suite, of which one version is used
}

// why gives the reason that holds for a program, or "".
func why(program string) string {
	r := reasons[program]
	if r.holds != nil && !r.holds() {
		return ""
	}
	return r.text
}

var reasons = map[string]reason{
	"delete_resources":            pointers,
	"linux_cgroups_pids":          pointers,
	"linux_cgroups_relative_pids": pointers,
	"hooks":                       {text: "the suite: it expects that some hooks write their name without the word \"called\", which all of them are told to write"},
	"prestart":                    {text: "the suite: it demands that prestart hooks run after `start`; since runtime-spec 1.0.2 they must be called as part of `create`"},
	"misc_props":                  {text: "the suite: its bundle lacks the program /runtimetest that its first configuration executes"},
	"pidfile": {text: "the suite: it starts `true` and then demands that killing it succeeds, which it does only if the kill comes before `true` has ended; " +
		"its program `kill` demands that killing a stopped container fails"},
	"process_rlimits":      {text: "the suite: its checker is a Go program, whose run-time system raises the soft limit of descriptors to the hard one before main"},
	"start":                {text: "the suite: its last check says that `start` must generate an error without a process, and fails if it does"},
	"linux_cgroups_blkio":  leaf,
	"linux_cgroups_memory": kernelMemory,
	"linux_cgroups_hugetlb": {"the machine: the hugetlb controller is not mounted, so create is refused; mounted by hand, both runtimes pass with 3/0",
		func() bool { return !mounted("hugetlb") }},
	"linux_cgroups_network": {"the machine: the net_cls and net_prio controllers are not mounted, so create is refused; besides, the kernel looks for interfaces in the " +
		"first network namespace only, and this test has one of its own", nil},
	"linux_cgroups_relative_blkio":  leaf,
	"linux_cgroups_relative_memory": kernelMemory,
	"linux_cgroups_relative_hugetlb": {"the machine: the hugetlb controller is not mounted, so create is refused; mounted by hand, both runtimes pass with 8/0",
		func() bool { return !mounted("hugetlb") }},
	"linux_cgroups_relative_network": {"the machine: the net_cls and net_prio controllers are not mounted, so create is refused; mounted by hand, both runtimes pass with 5/0",
		func() bool { return !mounted("net_cls") || !mounted("net_prio") }},
	"linux_mount_label":              {"the machine: SELinux is not enabled, so the kernel refuses the mount option context=", func() bool { return missing("/sys/fs/selinux/enforce") }},
	"linux_process_apparmor_profile": {"the machine: AppArmor is not enabled, so a profile cannot be taken on", func() bool { return missing("/sys/module/apparmor") }},
	"process_capabilities":           {"the machine: root lacks CAP_SYS_RESOURCE, and a capability that cannot be given is an error", lacksSysResource},
}

var (
	pointers = reason{text: "the suite: it compares the addresses of two limits and not the limits, as the large numbers show that it prints"}
	leaf     = reason{"the machine: leafWeight went from the kernel with the CFQ scheduler in Linux 5.0, so create is refused",
		func() bool { return missing("/sys/fs/cgroup/blkio/blkio.leaf_weight") }}
	kernelMemory = reason{"the machine: its kernel ignores what is written to memory.kmem.limit_in_bytes (kernelTCP, which runc ignores, is applied)", ignoresKernelMemory}
)

func missing(path string) bool {
	_, err := os.Stat(path)
	return os.IsNotExist(err)
}

// mounted tells whether a controller has a v1 hierarchy.
func mounted(controller string) bool {
	text, _ := os.ReadFile("/proc/self/cgroup")
	return regexp.MustCompile(`(?m)^\d+:([a-z_,]+,)?` + controller + `(,[a-z_,]+)?:`).Match(text)
}

// ignoresKernelMemory tries it in a cgroup of its own.
func ignoresKernelMemory() bool {
	dir := "/sys/fs/cgroup/memory/gantry-test-kmem-" + strconv.Itoa(os.Getpid())
	if os.Mkdir(dir, 0o755) != nil {
		return true // no v1 hierarchy: no such setting
	}
	defer func() { _ = os.Remove(dir) }()
	const limit = "50593792"
	_ = os.WriteFile(dir+"/memory.kmem.limit_in_bytes", []byte(limit), 0)
	now, _ := os.ReadFile(dir + "/memory.kmem.limit_in_bytes")
	return strings.TrimSpace(string(now)) != limit
}

func lacksSysResource() bool {
	var data [2]unix.CapUserData
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) == 0
}
