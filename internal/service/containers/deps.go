package containers

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/spec"
)

// Everything that the use cases of containers need from the rest of the house.
// cmd/gantryd/wire_linux.go fills the ports; tests fill them with honest fakes.

// Records keeps container records over restarts and crashes.
type Records interface {
	// Save commits the record durably before it returns (two syncs).
	Save(ctx context.Context, id string, record []byte) error
	// SaveSoon commits the record within a second, together with others: for what
	// the keeper's own record can tell again after a crash of the daemon.
	SaveSoon(id string, record []byte)
	// RemoveSoon deletes the record for this daemon and its successors, and commits that within a second: a power
	// cut before brings the record of a removed container back, without its files.
	RemoveSoon(ctx context.Context, id string) error
	// All yields every record, in order of ID.
	All(ctx context.Context) iter.Seq2[string, []byte]
	// SaveVolatile keeps the record below the exec root only, without a sync: for
	// auto-remove containers, which need not survive a reboot. Save, SaveSoon
	// and RemoveSoon of such a record stay volatile.
	SaveVolatile(ctx context.Context, id string, record []byte) error
}

// Images finds images. Implemented by service/images.
type Images interface {
	// Resolve finds an unpacked image by reference, ID or ID prefix, from memory.
	// errdefs.NotFound has Docker's text "No such image: …".
	Resolve(ctx context.Context, ref string, platform *ocispec.Platform) (spec.Image, error)
	// Exists tells whether the image (by ID) is still here, for inspect and list.
	Exists(ctx context.Context, id string) bool
}

// Layers makes writable layers on top of images. Implemented by driver/layers.
type Layers interface {
	// Create makes a container's writable layer and pins the image's layers.
	Create(ctx context.Context, container string, img spec.Image, opts LayerOptions) (spec.Rootfs, error)
	// Rootfs gives the value again, after a restart of the daemon.
	Rootfs(ctx context.Context, container string) (spec.Rootfs, error)
	// Remove deletes the writable layer. Removing what is not there is no error.
	Remove(ctx context.Context, container string) error
	// Usage is the writable layer's size, and that of the image below, in bytes.
	Usage(ctx context.Context, container string) (writable, image int64, err error)
	// Changes lists what differs from the image (docker diff).
	Changes(ctx context.Context, container string) ([]Change, error)
}

// LayerOptions are what --storage-opt and --rm decide about a writable layer.
type LayerOptions struct {
	SizeLimit int64 // bytes; 0 is none
	Volatile  bool  // auto-remove: below the exec root's sweep list, never synced
}

// ChangeKind is docker diff's letter: 0 modified, 1 added, 2 deleted.
type ChangeKind uint8

// Change is one path of docker diff.
type Change struct {
	Path string
	Kind ChangeKind
}

// Views opens a container's file system from the host, running or not, without
// mounting its writable layer a second time while it runs. Implemented by driver/rootview.
type Views interface {
	// Open gives a view of the container's file tree. pid is the init's, or 0 when it is stopped:
	// then mounts are shown too. One for "/" with the option "ro" and no source makes the root
	// read-only; "subpath=…" names a place inside a bind's source, from which no link leads out.
	Open(ctx context.Context, rootfs spec.Rootfs, mounts []specs.Mount, pid int) (View, error)
}

// View is a container's file tree. Every path is resolved inside the tree
// (openat2 with RESOLVE_IN_ROOT): a container that swaps paths meanwhile never reaches the host.
type View interface {
	Stat(path string) (PathStat, error)
	// TarOut writes the file or folder at path as a tar stream whose names begin with base.
	TarOut(ctx context.Context, path, base string, w io.Writer) error
	// TarIn unpacks a tar stream into the folder at path.
	TarIn(ctx context.Context, path string, r io.Reader, opts TarInOptions) error
	Close() error
}

// PathStat is what HEAD /containers/{id}/archive tells.
type PathStat struct {
	Name       string
	Size       int64
	Mode       uint32 // Go's os.FileMode bits
	ModTime    time.Time
	LinkTarget string // resolved inside the container
}

// TarInOptions are the query parameters of PUT /containers/{id}/archive.
type TarInOptions struct {
	NoOverwriteDirNonDir bool
	CopyUIDGID           bool
	UID, GID             int
}

// Processes runs and looks after processes. Implemented by driver/keeper.
type Processes interface {
	Launch(ctx context.Context, l spec.Launch) (spec.Running, error)
	// Signal sends to the process only if it is still that process (pidfd).
	// errdefs.NotFound means that it has ended.
	Signal(ctx context.Context, key spec.ProcessKey, signal int) error
	// Handle fetches a descriptor; the caller closes it.
	Handle(ctx context.Context, key spec.ProcessKey, h spec.Handle) (io.ReadWriteCloser, error)
	// CloseStdin closes the kept write end: the process reads end of file.
	CloseStdin(ctx context.Context, key spec.ProcessKey) error
	// Resize sets the terminal's size in characters.
	Resize(ctx context.Context, key spec.ProcessKey, height, width uint16) error
}

// Lifetimes tells of processes that ended or live on. Implemented by driver/keeper.
type Lifetimes interface {
	// Exits delivers every exit once, also those that happened while the daemon
	// was down, until ctx ends. The record stays in the keeper until Forget.
	Exits(ctx context.Context) <-chan spec.Exit
	// Alive lists the processes that the keeper looks after, with their PIDs.
	Alive(ctx context.Context) (map[spec.ProcessKey]spec.Running, error)
	// Ended lists the processes whose exit was delivered and that were not forgotten.
	Ended(ctx context.Context) (map[spec.ProcessKey]spec.Running, error)
	// Forget drops an ended process: its exit record, its output that nobody read.
	Forget(ctx context.Context, key spec.ProcessKey) error
}

// Outputs streams live output to attached clients. Implemented by driver/keeper.
type Outputs interface {
	// Follow yields output from now on (or from the process's start when it has not been
	// launched yet) until the process has ended and everything was delivered.
	// A slow reader delays nobody: it reads from the keeper's spool at its own pace.
	// Follow returns once the subscription is in place.
	Follow(ctx context.Context, key spec.ProcessKey) (OutputReader, error)
}

// OutputReader is one client's position in a process's output.
type OutputReader interface {
	// Next waits for more; io.EOF after the last chunk of an ended process.
	Next(ctx context.Context) (spec.Chunk, error)
	Close() error
}

// Logs reads what the keeper wrote. Implemented by driver/logs.
type Logs interface {
	// Read yields log entries by the options; with Follow until ended closes and all was read.
	// They come in batches of at least one, as large as what is there to be read at
	// once. A batch is valid until the next one is asked for.
	Read(ctx context.Context, cfg spec.LogConfig, opts LogOptions, ended <-chan struct{}) iter.Seq2[[]LogEntry, error]
	// Readable says why a driver's logs cannot be read, or nil.
	Readable(driver string) error
	// Validate checks a driver's name and options at create.
	Validate(driver string, options map[string]string) error
}

// LogOptions select log entries.
type LogOptions struct {
	Stdout, Stderr bool
	Since, Until   time.Time // zero means no bound
	Tail           int       // last n entries; -1 means all
	Follow         bool
}

// LogEntry is one entry of a log.
type LogEntry = spec.LogEntry

// Cgroups accounts and limits. Implemented by driver/cgroup.
type Cgroups interface {
	// Create makes the cgroup and sets its limits. parent is --cgroup-parent or empty.
	Create(ctx context.Context, container, parent string, r *specs.LinuxResources) (spec.Cgroup, error)
	Update(ctx context.Context, cg spec.Cgroup, r *specs.LinuxResources) error
	Freeze(ctx context.Context, cg spec.Cgroup, frozen bool) error
	// Destroy kills what is left inside and removes the directories.
	Destroy(ctx context.Context, cg spec.Cgroup) error
	Pids(ctx context.Context, cg spec.Cgroup) ([]int, error)
}

// Meters reads what a cgroup has used. Implemented by driver/cgroup.
type Meters interface {
	Read(ctx context.Context, cg spec.Cgroup) (Usage, error)
}

// OOMs tells when the kernel's out-of-memory killer strikes. Implemented by driver/cgroup.
type OOMs interface {
	// Watch calls struck, in a goroutine of its own, when the kernel has killed a process inside:
	// now or before, the container's first or any other.
	Watch(ctx context.Context, cg spec.Cgroup, struck func()) (OOMWatch, error)
}

// OOMWatch is one cgroup that is watched.
type OOMWatch interface {
	Kills() uint64 // how many processes were killed since the cgroup was made
	End()
}

// Usage is a cgroup's counters, close to the API's stats.
type Usage struct {
	Read                                            time.Time
	CPUTotal, CPUUser, CPUSystem                    uint64 // nanoseconds
	PerCPU                                          []uint64
	Periods, ThrottledPeriods, ThrottledTime        uint64
	Memory, MemoryMax, MemoryLimit, MemoryFailcnt   uint64 // bytes
	MemoryStats                                     map[string]uint64
	Pids, PidsLimit                                 uint64
	BlkioBytes, BlkioOps, BlkioQueued, BlkioService []BlkioEntry
	OnlineCPUs                                      int
	OOMKills                                        uint64
	V2                                              bool
}

// BlkioEntry is one device's counter.
type BlkioEntry struct {
	Major, Minor uint64
	Op           string
	Value        uint64
}

// Networks gives containers their network. Implemented by service/networks.
type Networks interface {
	// Check validates names and static addresses at create.
	Check(ctx context.Context, req spec.SandboxRequest) error
	// Attach makes (or takes from the warm pool) the namespace with its endpoints and ports.
	Attach(ctx context.Context, req spec.SandboxRequest) (spec.Sandbox, error)
	// Restore takes over what a former daemon attached, for a container that still runs.
	Restore(ctx context.Context, container string, s spec.Sandbox, pid int) error
	// Release undoes Attach. Releasing twice is no error.
	Release(ctx context.Context, container string, s spec.Sandbox) error
	NetworkChanges
}

// NetworkChanges are about containers that run.
type NetworkChanges interface {
	// Connect adds a network to what a running container has, Disconnect takes one away; both give the sandbox as it is then.
	Connect(ctx context.Context, req spec.SandboxRequest, want spec.EndpointRequest) (spec.Sandbox, error)
	Disconnect(ctx context.Context, req spec.SandboxRequest, network string, force bool) (spec.Sandbox, error)
	// Rename makes a running container known under its present name.
	Rename(ctx context.Context, req spec.SandboxRequest) (spec.Sandbox, error)
	// Name is the name of the network that a name, an ID or its beginning means.
	Name(ctx context.Context, ref string) (string, error)
	// Resolver is what goes into resolv.conf for the networks joined.
	Resolver(ctx context.Context, endpoints []spec.Endpoint) (servers, search, options []string, err error)
}

// Volumes gives containers their volumes. Implemented by service/volumes.
type Volumes interface {
	// Ensure finds or creates a volume; an empty name makes an anonymous one.
	Ensure(ctx context.Context, name, driver string, opts, labels map[string]string) (spec.Volume, error)
	// Acquire and Release count the containers that hold the volume.
	Acquire(ctx context.Context, name, container string) (spec.Volume, error)
	Release(ctx context.Context, name, container string) error
	Remove(ctx context.Context, name string, force bool) error
	// Populate copies the image's content at path into an empty volume, once.
	Populate(ctx context.Context, name string, root spec.Rootfs, path string) error
}

// HostMounts makes what a start needs on the host. Implemented by driver/hostmount.
type HostMounts interface {
	// SharedMemory mounts a tmpfs of size bytes at path, for /dev/shm of several containers.
	// It does nothing when one is there.
	SharedMemory(path string, size int64, label string) error
	// Unmount undoes SharedMemory; what is not mounted or not there is no error.
	Unmount(path string) error
	// Inside looks subpath up below dir, without ever leaving it, and gives a path at which what it
	// found is mounted until done is called. errdefs.NotFound if there is nothing.
	Inside(dir, subpath string) (path string, done func(), err error)
	// Propagates is an error unless the mount that path lies on passes mounts on to its clones: a
	// shared one, or a slave where that is enough. Without it --mount bind-propagation would do nothing.
	Propagates(path string, slaveSuffices bool) error
}

// Events publishes what happened. Implemented by service/events.
type Events interface {
	Publish(m events.Message)
}
