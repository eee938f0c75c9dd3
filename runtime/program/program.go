// Package program is the language between the compiler of OCI configurations
// (package runtime) and gantry-init (package initproc): a flat list of
// instructions that init carries out one after the other.
//
// An instruction is
//
//	[opcode 1][length of the operands 4 LE][operands]
//
// and operands follow each other without names:
//
//	number  [8 LE]
//	string  [length 4 LE][bytes][0]     the zero lets init hand it to the kernel in place
//	list    [count 4 LE][string]…
//
// The format is private to one build of the engine: both ends are always of the
// same build, so it has a version only to notice when they are not. The package
// imports nothing, so that init stays small.
package program

// Version is the first number of every program.
const Version = 5

// Op is an instruction's code.
type Op byte

// The instructions, with their operands. Paths inside the container are always
// resolved confined to its root.
const (
	_              Op = iota
	OpUnshare         // flags: namespaces that must be left after the cgroup was entered
	OpPropagation     // flags for mount(2) on "/"; flags2 for "/" alone or 0
	OpRootOverlay     // lower (list, top first), upper, work, options (list), read-only
	OpRootBind        // path, read-only, recursive
	OpMount           // fstype, source, dest, attrs set, propagation (list of numbers as flags), options (list), flags, mode
	OpBind            // source, dest, flags, set, clear, set rec, clear rec, propagation
	OpMknod           // path, mode with type, device, uid, gid, flags
	OpSymlink         // target, path
	OpMask            // path
	OpReadonly        // path
	OpSysctl          // path below /proc/sys, value
	OpHostname        // name
	OpDomainname      // name
	OpTerminal        // flags, rows, columns
	OpHook            // point
	OpHookRun         // point, path, args, env, timeout in seconds: run inside init's namespaces
	OpPivot           // flags
	OpRootReadonly    // none
	OpRootFlags       // propagation flags for the new root
	OpRlimit          // resource, soft, hard
	OpOOMScore        // value (as text)
	OpUmask           // mask
	OpPersonality     // domain
	OpScheduler       // policy, flags, nice, priority, runtime, deadline, period
	OpIOPriority      // class<<13 | priority
	OpLabel           // attribute below attr/ ("exec", "apparmor/exec", "keycreate"), value, fall-back attribute
	OpUser            // uid, gid, groups (list of decimal strings)
	OpUserName        // "user[:group]", groups (list of names or decimal strings), base user flags
	OpCaps            // bounding, effective, permitted, inheritable, ambient, flags
	OpNoNewPrivs      // none
	OpSeccomp         // flags, program (string of sock_filter)
	OpCwd             // path, create
	OpEnv             // list
	OpSetHome         // none: HOME from the container's passwd file unless set
	OpSession         // none: a session of its own
	OpGate            // report: tell that all is ready, wait for the byte on the gate; report: from then on messages go to the descriptor before the socket
	OpLookup          // none: find the executable in the container
	OpStayInit        // none: execute gantry-init anew here and fork there; the first process reaps and forwards signals
	OpArgs            // list
	OpExec            // none
	OpKeepFDs         // number of descriptors from 3 on that the process keeps
	OpCPUAffinity     // mask as bytes
	OpHideProc        // none: not dumpable until exec
	OpMemoryPolicy    // mode, flags, nodes as bytes
	OpKeyring         // name: a session keyring of this name instead of the engine's
	OpKeepSelf        // proc: keep what OpStayInit will need: gantry-init's executable, room for a program, and a procfs if asked to
	OpStayed          // executable, terminal, descriptors' soft limit, procfs' descriptor or 0: OpStayInit's own, the first in what it hands on
)

// Flags of OpMount.
const (
	MountCopyUp   = 1 << iota // fill a tmpfs with what it hides
	MountOptional             // absence of the file system type is no error
	MountTwiceOK              // the file system may be there already (EBUSY is fine)
	MountProcHere             // the private procfs handle may be attached as it is
	MountBindHost             // where a user namespace forbids the type, bind the host's directory of that name
)

// Flags of OpBind.
const (
	BindRecursive = 1 << iota
	BindCreate    // make a missing target
	BindOptional
	BindOwnRoot   // the source is a path inside the container's root
	BindTree      // the source is the number of a descriptor with the tree to attach
	BindProcFile  // the target is an informative file of /proc
	BindCreateSrc // unused sources are errors unless this is set: then a folder is made
)

// Flags of OpMknod.
const (
	MknodBind = 1 << iota // bind the host's device: user namespaces cannot make nodes
)

// Flags of OpTerminal.
const (
	TerminalConsole = 1 << iota // also bind it to /dev/console
)

// Flags of OpPivot.
const (
	PivotMove   = 1 << iota // --no-pivot: chroot into the root on top of the old one
	PivotNone               // no new root: only change directory to /
	PivotChroot             // no mount namespace of its own: chroot and nothing else
)

// Flags of OpCaps.
const (
	CapsDropMissing = 1 << iota // what the host withholds is dropped with a warning
)

// Flags of OpSeccomp, beside those of seccomp(2) in the lower 32 bits.
const (
	SeccompNotify = 1 << 32 // send the listener to the parent
)

// Hook points, in the order in which a container passes them.
const (
	HookCreateRuntime   = 1 // parent runs prestart and createRuntime hooks
	HookCreateContainer = 2 // init runs them before pivot_root
	HookStartContainer  = 3 // init runs them before exec
)

// Messages on the socket between the parent and init: [kind 1][length 4 LE][payload].
const (
	MsgError    = 'X' // init: stage, path (strings), errno (number), text (string)
	MsgWarning  = 'W' // init: text
	MsgTerminal = 'T' // init: the master, as SCM_RIGHTS
	MsgNotify   = 'N' // init: the seccomp listener, as SCM_RIGHTS
	MsgHook     = 'H' // init: point, waits for MsgGo
	MsgReady    = 'R' // init: everything is set up, waiting at the gate
	MsgExec     = 'E' // init: about to execute; the socket's end without MsgError is success
	MsgGo       = 'G' // parent: state as JSON, go on
)

// A parked init (spawn.Park) is told by its socket's number, the word "parked" and whose it is. It waits for a first message of
// AdoptSize bytes, four numbers: the standard descriptors that stay what they are (bits), the number of network namespaces (0
// or 1) and of tasks files of cgroup v1 that come along as descriptors, in this order after the standard ones, and
// the namespaces to leave. Then the program follows.
const (
	ParkedSocket = 3
	AdoptSize    = 32
	ParkedFDs    = 64 // at most
)

// Writer collects instructions.
type Writer struct {
	buf   []byte
	start int
}

// NewWriter starts a program.
func NewWriter() *Writer {
	w := &Writer{buf: make([]byte, 0, 16<<10)}
	w.buf = append(w.buf, 0, 0, 0, 0) // total length
	w.Num(Version)
	w.start = -1
	return w
}

// Begin starts an instruction, ending the one before.
func (w *Writer) Begin(op Op) *Writer {
	w.end()
	w.buf = append(w.buf, byte(op), 0, 0, 0, 0)
	w.start = len(w.buf)
	return w
}

func (w *Writer) end() {
	if w.start >= 0 {
		putU32(w.buf[w.start-4:], uint32(len(w.buf)-w.start))
	}
}

// Num adds a number.
func (w *Writer) Num(n uint64) *Writer {
	w.buf = append(w.buf, byte(n), byte(n>>8), byte(n>>16), byte(n>>24), byte(n>>32), byte(n>>40), byte(n>>48), byte(n>>56))
	return w
}

// Bool adds 0 or 1.
func (w *Writer) Bool(b bool) *Writer {
	if b {
		return w.Num(1)
	}
	return w.Num(0)
}

// Str adds a string.
func (w *Writer) Str(s string) *Writer {
	n := len(s)
	w.buf = append(w.buf, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	w.buf = append(w.buf, s...)
	w.buf = append(w.buf, 0)
	return w
}

// List adds strings.
func (w *Writer) List(l []string) *Writer {
	n := len(l)
	w.buf = append(w.buf, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	for _, s := range l {
		w.Str(s)
	}
	return w
}

// Append adds instructions that were written elsewhere.
func (w *Writer) Append(instructions []byte) *Writer {
	w.end()
	w.buf, w.start = append(w.buf, instructions...), -1
	return w
}

// Bytes ends the program and gives it, its own length in front.
func (w *Writer) Bytes() []byte {
	w.end()
	putU32(w.buf, uint32(len(w.buf)))
	return w.buf
}

func putU32(b []byte, n uint32) {
	b[0], b[1], b[2], b[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
}

// Reader walks over operands or instructions. Bad is set when they end too early.
type Reader struct {
	Buf []byte
	Bad bool
}

// U32 reads a length.
func (r *Reader) U32() int {
	if len(r.Buf) < 4 {
		r.Bad, r.Buf = true, nil
		return 0
	}
	n := int(r.Buf[0]) | int(r.Buf[1])<<8 | int(r.Buf[2])<<16 | int(r.Buf[3])<<24
	r.Buf = r.Buf[4:]
	return n
}

// Num reads a number.
func (r *Reader) Num() uint64 {
	if len(r.Buf) < 8 {
		r.Bad, r.Buf = true, nil
		return 0
	}
	b := r.Buf
	r.Buf = b[8:]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// Int reads a number as a signed one.
func (r *Reader) Int() int { return int(int64(r.Num())) }

// Str reads a string without copying it. One byte after it, in the same array, is a zero.
func (r *Reader) Str() []byte {
	n := r.U32()
	if r.Bad || n < 0 || n+1 > len(r.Buf) {
		r.Bad, r.Buf = true, nil
		return nil
	}
	s := r.Buf[:n]
	r.Buf = r.Buf[n+1:]
	return s
}

// List reads strings without copying them.
func (r *Reader) List() [][]byte {
	n := r.U32()
	if r.Bad || n < 0 || n*5 > len(r.Buf) {
		r.Bad = r.Bad || n != 0
		return nil
	}
	l := make([][]byte, 0, n)
	for range n {
		l = append(l, r.Str())
	}
	return l
}

// Next reads an instruction; op is 0 at the end.
func (r *Reader) Next() (op Op, operands Reader) {
	if len(r.Buf) == 0 {
		return 0, Reader{}
	}
	op = Op(r.Buf[0])
	r.Buf = r.Buf[1:]
	n := r.U32()
	if r.Bad || n < 0 || n > len(r.Buf) {
		r.Bad = true
		return 0, Reader{}
	}
	operands = Reader{Buf: r.Buf[:n:n]}
	r.Buf = r.Buf[n:]
	return op, operands
}
