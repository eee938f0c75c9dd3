package oci

// reasons say why programs fail with gantry-runtime. A program without an entry must pass; what is
// the machine's may pass on another one.
var reasons = map[string]string{
	"delete_resources":               pointers,
	"linux_cgroups_pids":             pointers,
	"linux_cgroups_relative_pids":    pointers,
	"hooks":                          "the suite: it expects that some hooks write their name without the word \"called\", which all of them are told to write",
	"prestart":                       "the suite: it demands that prestart hooks run after `start`; since runtime-spec 1.0.2 they must be called as part of `create`",
	"misc_props":                     "the suite: its bundle lacks the program /runtimetest that its first configuration executes",
	"pidfile":                        "the suite: it starts `true` and then demands that killing it succeeds, which it does only if the kill comes before `true` has ended; its program `kill` demands that killing a stopped container fails",
	"process_rlimits":                "the suite: its checker is a Go program, whose run-time system raises the soft limit of descriptors to the hard one before main",
	"start":                          "the suite: its last check says that `start` must generate an error without a process, and fails if it does",
	"linux_cgroups_blkio":            leaf,
	"linux_cgroups_relative_blkio":   leaf,
	"linux_cgroups_hugetlb":          "the machine: its kernel has no hugetlb controller, so create is refused",
	"linux_cgroups_relative_hugetlb": "the machine: its kernel has no hugetlb controller, so create is refused",
	"linux_cgroups_network":          "the machine: its kernel has no net_cls and net_prio controllers, so create is refused",
	"linux_cgroups_relative_network": "the machine: its kernel has no net_cls and net_prio controllers, so create is refused",
	"linux_cgroups_memory":           kernelMemory,
	"linux_cgroups_relative_memory":  kernelMemory,
	"linux_mount_label":              "the machine: SELinux is off, and tmpfs refuses the option context=",
	"linux_process_apparmor_profile": "the machine: AppArmor is off, and the profile that the program names does not exist",
	"process_capabilities":           "the machine: it withholds CAP_SYS_RESOURCE from root, and a capability that cannot be given is an error",
}

const (
	pointers     = "the suite: it compares the addresses of two limits, not the limits (both runtimes fail with `expect: 8740733887000`)"
	leaf         = "the machine: leafWeight went from the kernel with the CFQ scheduler in Linux 5.0, so create is refused"
	kernelMemory = "the machine: the kernel ignores what is written to memory.kmem.limit_in_bytes since Linux 5.16 (kernelTCP is applied)"
)
