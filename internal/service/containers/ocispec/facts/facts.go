// Package facts describes what a host can do, as far as it decides which
// container options work and which are refused or warned about. It is plain
// data: the daemon's wiring fills it from the drivers.
package facts

// Host is what the kernel and its set-up offer to containers.
type Host struct {
	CPUs     int   // number of online processors
	Memory   int64 // bytes
	CgroupV2 bool  // pure v2; false on v1 and hybrid hosts

	MemoryLimit, SwapLimit, MemoryReservation bool
	OomKillDisable, Swappiness                bool
	CPUShares, CPUCfs, Cpuset                 bool
	PidsLimit, BlkioWeight, BlkioThrottle     bool
	CPURealtime                               bool

	Seccomp, AppArmor, SELinux bool
	RecursiveReadOnly          bool   // mount_setattr(AT_RECURSIVE), kernel 5.12
	CapBounding                uint64 // the daemon's bounding set, one bit per capability; 0 means all
	KernelVersion              string // as uname -r gives it
}

// Full is a host that can do everything, for tests and as a starting point.
func Full() Host {
	return Host{
		CPUs: 2, Memory: 8 << 30, CgroupV2: true,
		MemoryLimit: true, SwapLimit: true, MemoryReservation: true, OomKillDisable: true, Swappiness: true,
		CPUShares: true, CPUCfs: true, Cpuset: true, PidsLimit: true, BlkioWeight: true, BlkioThrottle: true, CPURealtime: true,
		Seccomp: true, RecursiveReadOnly: true, KernelVersion: "6.18.0",
	}
}
