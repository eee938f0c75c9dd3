package runtime

import (
	"github.com/gantry-engine/gantry/runtime/spawn"
)

// Rootfs says how the root file system is put together.
type Rootfs struct {
	Lower       []string // overlay layers, uppermost first; empty means Path
	Upper, Work string   // overlay's writable folders; both empty is a read-only view
	Path        string   // a plain folder
	Options     []string // further overlay options
}

// CapPolicy says what to do with capabilities that the host withholds from the engine.
type CapPolicy int

const (
	// CapsExact refuses to start, naming them.
	CapsExact CapPolicy = iota
	// CapsAvailable drops them with a warning (--privileged).
	CapsAvailable
)

// CgroupDir is a hierarchy to be seen at the container's cgroup mount.
type CgroupDir struct {
	Name string // folder below the mount: "memory", "cpu,cpuacct"; empty for cgroup v2
	Dir  string // the container's own cgroup on the host
	Link []string
}

// Options are what the OCI configuration cannot say.
type Options struct {
	Rootfs Rootfs
	// Bundle is the folder that a relative root.path is relative to.
	Bundle string
	// UserString is Docker's "user[:group]", looked up in the container; it replaces Process.User's ids.
	UserString string
	// Groups are further groups by name or number, looked up in the container. Only with UserString.
	Groups []string
	// SetHome adds HOME where the environment has none.
	SetHome bool
	// CreateCwd makes a missing working directory.
	CreateCwd bool
	// UseInit keeps gantry-init as PID 1.
	UseInit bool
	// Gate makes init wait for a byte after everything is set up (OCI create and start).
	Gate bool
	// Report tells that spawn.Config.Report is given: what happens after the gate is written there.
	Report bool
	// NoPivot uses chroot, for roots on an initial ramdisk.
	NoPivot bool
	// Chroot allows a configuration without a new mount namespace: its process gets the root by
	// chroot, and none of the mounts, devices, masked and read-only paths, because they would change
	// mounts that are not the container's. Without Chroot such a configuration is refused. With Exec it
	// tells that the target is such a container.
	Chroot bool
	// KeepFDs is how many descriptors from 3 on the process inherits.
	KeepFDs int
	// Keyring names the session keyring that the process joins, made if need be; empty leaves it the caller's.
	Keyring string
	// NetNS tells that the network namespace comes as a descriptor: the configuration's is not made.
	NetNS bool
	// Joined are namespaces (CLONE_NEW… flags) that come as descriptors.
	Joined uint64
	CapPolicy
	// CgroupDirs describe the container's cgroup for a mount of type cgroup.
	CgroupDirs []CgroupDir
	// CgroupV2 is the directory to be born in (CLONE_INTO_CGROUP), Tasks the tasks files to enter (v1).
	CgroupV2 string
	Tasks    []string
	// Exec compiles a further process for a running container: it joins these namespaces
	// (CLONE_NEW… flags) of the target, and makes no root.
	Exec             bool
	TargetNamespaces uint64
	// HostHooks tells that the caller answers at hook points.
	HostHooks bool
}

// Program is a compiled configuration.
type Program struct {
	Init     []byte      // for spawn.Config.Program
	Facts    spawn.Facts // for spawn.Config.Facts
	Terminal bool
}
