package spec

import (
	"os"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ProcessKey names one process that the keeper looks after: a container's init
// (Exec is empty) or a further process executed in it.
type ProcessKey struct {
	Container string // full 64-digit container ID
	Exec      string // full 64-digit exec ID, or empty for the container's init
}

// String gives "container" or "container/exec", the form used in file names and logs.
func (k ProcessKey) String() string {
	if k.Exec == "" {
		return k.Container
	}
	return k.Container + "/" + k.Exec
}

// NamespaceKind is a namespace's name as the OCI runtime specification spells it.
type NamespaceKind = specs.LinuxNamespaceType

// Join asks that a namespace be shared with another running container.
type Join struct {
	Kind      NamespaceKind
	Container string // full ID of the container whose init's namespace is joined
}

// Launch is everything that is needed to make a process: one message to the keeper.
type Launch struct {
	Key ProcessKey

	// OCI is the runtime-spec configuration. For an exec (Key.Exec set) only
	// OCI.Process, OCI.Linux.Seccomp and the label fields are read; the process joins every
	// namespace, the cgroup and the root of the container's init.
	OCI *specs.Spec

	Rootfs Rootfs

	// NetNS is the network namespace to enter, or nil: then OCI.Linux.Namespaces
	// or Join decide. The callee does not close it.
	NetNS *os.File

	Join   []Join
	Cgroup Cgroup

	// UseInit makes gantry-init stay as PID 1, reaping and forwarding signals (--init).
	UseInit bool

	// Stdin keeps a pipe (or the terminal) open for input; without it the process reads /dev/null.
	// CloseStdinAfterAttach is Docker's StdinOnce.
	Stdin bool

	Log LogConfig

	// Note is kept with the process: a daemon that takes it over gets it back with Running.
	Note []byte
}

// LogConfig says where the keeper writes a process's output, besides attached clients.
type LogConfig struct {
	Driver  string            // "json-file", "local" or "none"; empty means "none"
	Path    string            // absolute path of the current log file
	Options map[string]string // max-size, max-file, compress, labels, env, tag … as given to --log-opt
	Attrs   map[string]string // json-file "attrs" (labels/env selected by options), already resolved
}

// Running is what a successful launch yields.
type Running struct {
	PID     int       // in the host's pid namespace
	Started time.Time // taken by the keeper right after the user's program was executed
	Note    []byte    // Launch.Note, for a process that was not launched by this daemon
}

// Exit is how a process ended. It is the keeper's (or the anchor's) record.
type Exit struct {
	Key     ProcessKey
	Code    int       // 0–255 as a shell shows it: 128+signal if a signal ended it
	Signal  int       // the signal that ended it, or 0
	Time    time.Time // when the exit was seen
	Unknown bool      // nobody saw the exit status: Code is 255 and is not the process's own
	OOM     bool      // the kernel's out-of-memory killer struck in its cgroup
}

// LaunchError is a launch that failed before the user's program ran.
type LaunchError struct {
	Stage string // what was being done: "mount", "pivot_root", "user", "cwd", "exec", …
	Path  string // what it was done to, if anything
	Errno int    // the kernel's error number, or 0
	Text  string // the whole message
}

func (e *LaunchError) Error() string { return e.Text }

// Handle selects a descriptor to be fetched from the keeper.
type Handle string

// The descriptors that the keeper hands out for a live process.
const (
	HandleStdin    Handle = "stdin"    // write end of the input pipe
	HandleTerminal Handle = "terminal" // the terminal's master side; resize it by ioctl
	HandlePIDFD    Handle = "pidfd"
)

// Stream numbers are those of the attach protocol's frame header.
type Stream byte

// The streams of a process.
const (
	Stdin  Stream = 0
	Stdout Stream = 1
	Stderr Stream = 2
)

// LogEntry is one line of a log, or a part of a long one, with its line end.
// It fills one line of the processor's cache: reading a log is moving these.
type LogEntry struct {
	Stream Stream
	Time   time.Time
	Line   []byte            // as it was printed; valid as long as the buffer it was read into
	Attrs  map[string]string // shared by entries with the same attributes
}

// Chunk is a piece of a process's output, in the order in which it was read.
type Chunk struct {
	Stream Stream // a terminal's output is all Stdout
	Time   time.Time
	Data   []byte // valid until the next read
}
