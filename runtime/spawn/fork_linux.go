//go:build linux && (amd64 || arm64)

package spawn

import (
	"syscall"
	"unsafe"

	"github.com/gantry-engine/gantry/runtime/rawfork"
)

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// System calls that package syscall does not know.
const (
	sysClone3     = 435
	sysCloseRange = 436
	sysExecveat   = execveatNumber
)

const (
	cloneNewTime = 0x80         // CLONE_NEWTIME
	atFDCWD      = ^uintptr(99) // AT_FDCWD, -100
)

const closeRangeUnshare = 1 << 1 // CLOSE_RANGE_UNSHARE

// Stages at which the child can fail, reported through child.out.
const (
	failCgroup = 1 + iota
	failSetns
	failClone
	failMaps
	failDup
	failExec
	failChdir
	failUnshare
	failTime
)

const (
	prSetTimerslack = 29
	initSlack       = 1_000_000 // ns
)

// cloneArgs is struct clone_args (include/uapi/linux/sched.h).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

type setns struct {
	fd    uintptr
	flags uintptr
}

// timens is a time namespace to be made; all end with a zero.
type timens struct{ offsets, offsetsFile, file []byte }

// child is everything the child needs, laid out before the clone: afterwards
// it must neither allocate nor call anything that could grow the stack.
type child struct {
	first, second cloneArgs
	twoStage      bool
	asRoot        bool  // in a user namespace that is not the engine's
	tasks         []int // tasks files on cgroup v1
	joins         []setns
	// late are joins of the final process: time, which needs a memory of its own, and cgroup, which must come
	// after the birth in a cgroup: where delegation ends at namespaces (nsdelegate, systemd's default)
	// nobody inside one is moved into it from outside.
	late       []setns
	time       *timens // to make and enter; or nil
	ownMemory  bool
	mapsPipe   int   // read end: one byte when the id maps are written; -1 without
	fds        []int // source of each descriptor from 0 on, -1 for a hole
	next       int   // first free number above all of them
	above      int   // with CLONE_FILES: what this number and those above it are, the child leaves to the parent; else 0
	init       int
	argv, envp **byte
	empty      *byte
	zero       [1]byte
	answer     [1]byte
	signals    uint64 // all of them

	secondPID uintptr
	out       *outcome
}

// outcome is why a child failed. It is in memory that parent and child share, however the child was cloned.
type outcome struct {
	stage int // 0 is no failure
	errno syscall.Errno
	at    int // index of what it failed at
}

// clone makes the process. In the parent it returns its PID. Failures of the child are in c.out: at
// once with a shared memory (vfork), else when the socket has ended.
//
//go:noinline
//go:norace
//go:nosplit
func (c *child) clone() uintptr {
	beforeFork()
	pid := rawfork.Fork(sysClone3, uintptr(unsafe.Pointer(&c.first)), unsafe.Sizeof(c.first))
	if pid != 0 {
		return pid
	}
	c.inChild()
	for {
		syscall.RawSyscall(syscall.SYS_EXIT, 127, 0, 0)
	}
}

// inChild returns only after a failure.
//
//go:noinline
//go:norace
//go:nosplit
func (c *child) inChild() {
	c.zero[0] = '0'
	for i := range c.tasks {
		_, _, e := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(c.tasks[i]), uintptr(unsafe.Pointer(&c.zero)), 1)
		if e != 0 {
			c.fail(failCgroup, e, i)
			return
		}
	}
	for i := range c.joins {
		_, _, e := syscall.RawSyscall(sysSetns, c.joins[i].fd, c.joins[i].flags, 0)
		if e != 0 {
			c.fail(failSetns, e, i)
			return
		}
	}
	if c.twoStage {
		pid := rawfork.Fork(sysClone3, uintptr(unsafe.Pointer(&c.second)), unsafe.Sizeof(c.second))
		if pid != 0 {
			if pid > ^uintptr(4095) {
				c.fail(failClone, syscall.Errno(-pid), 0)
				return
			}
			c.secondPID = pid
			for {
				syscall.RawSyscall(syscall.SYS_EXIT, 0, 0, 0)
			}
		}
	}
	for i := range c.late {
		_, _, e := syscall.RawSyscall(sysSetns, c.late[i].fd, c.late[i].flags, 0)
		if e != 0 {
			c.fail(failSetns, e, len(c.joins)+i)
			return
		}
	}
	if c.mapsPipe >= 0 {
		n, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(c.mapsPipe), uintptr(unsafe.Pointer(&c.answer)), 1)
		if e != 0 || n != 1 {
			c.fail(failMaps, e, 0)
			return
		}
	}
	if c.time != nil {
		if e := c.enterTime(); e != 0 {
			c.fail(failTime, e, 0)
			return
		}
	}
	c.exec()
}

// enterTime makes a time namespace, sets its clocks while nobody is inside, and enters it.
//
//go:noinline
//go:norace
//go:nosplit
func (c *child) enterTime() syscall.Errno {
	const writeOnly = syscall.O_WRONLY | syscall.O_CLOEXEC
	if _, _, e := syscall.RawSyscall(syscall.SYS_UNSHARE, cloneNewTime, 0, 0); e != 0 {
		return e
	}
	if n := len(c.time.offsets) - 1; n > 0 {
		fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, atFDCWD, uintptr(unsafe.Pointer(&c.time.offsetsFile[0])), writeOnly, 0, 0, 0)
		if e != 0 {
			return e
		}
		if _, _, e := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&c.time.offsets[0])), uintptr(n)); e != 0 {
			return e
		}
		syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
	}
	fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, atFDCWD, uintptr(unsafe.Pointer(&c.time.file[0])), syscall.O_RDONLY|syscall.O_CLOEXEC, 0, 0, 0)
	if e != 0 {
		return e
	}
	_, _, e = syscall.RawSyscall(sysSetns, fd, cloneNewTime, 0)
	syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
	return e
}

//go:noinline
//go:norace
//go:nosplit
func (c *child) exec() {
	if c.asRoot { // else exec drops the capabilities that the namespace gives: its root is another user on the host
		syscall.RawSyscall(syscall.SYS_SETRESGID, 0, 0, 0)
		syscall.RawSyscall(syscall.SYS_SETRESUID, 0, 0, 0)
	}
	if c.above > 0 {
		// From here on the descriptors are the child's own: a copy of the few below.
		_, _, e := syscall.RawSyscall(sysCloseRange, uintptr(c.above), ^uintptr(0)>>33, closeRangeUnshare)
		if e != 0 {
			c.fail(failUnshare, e, 0)
			return
		}
	}
	// Sources below the targets are moved out of the way first.
	for i := range c.fds {
		if c.fds[i] >= 0 && c.fds[i] < c.next {
			n, _, e := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(c.fds[i]), syscall.F_DUPFD_CLOEXEC, uintptr(c.next))
			if e != 0 {
				c.fail(failDup, e, i)
				return
			}
			c.fds[i] = int(n)
		}
	}
	if c.init < c.next {
		n, _, e := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(c.init), syscall.F_DUPFD_CLOEXEC, uintptr(c.next))
		if e != 0 {
			c.fail(failDup, e, -1)
			return
		}
		c.init = int(n)
	}
	for i := range c.fds {
		if c.fds[i] < 0 {
			syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(i), 0, 0)
			continue
		}
		if _, _, e := syscall.RawSyscall(syscall.SYS_DUP3, uintptr(c.fds[i]), uintptr(i), 0); e != 0 {
			c.fail(failDup, e, i)
			return
		}
	}
	afterForkInChild()
	// All of gantry-init's threads start with every signal blocked, so that none of them takes one from the
	// thread that waits for it; the user's program gets an empty mask.
	c.signals = ^uint64(0)
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 0, uintptr(unsafe.Pointer(&c.signals)), 0, 8, 0, 0)
	// Those that only watch may sleep longer, too; init takes this back for the program.
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerslack, initSlack, 0)
	_, _, e := syscall.RawSyscall6(sysExecveat, uintptr(c.init), uintptr(unsafe.Pointer(c.empty)),
		uintptr(unsafe.Pointer(c.argv)), uintptr(unsafe.Pointer(c.envp)), atEmptyPath, 0)
	c.fail(failExec, e, 0)
}

//go:norace
//go:nosplit
func (c *child) fail(stage int, e syscall.Errno, at int) {
	c.out.errno, c.out.at = e, at
	c.out.stage = stage
}
