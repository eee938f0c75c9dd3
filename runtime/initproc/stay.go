//go:build linux

package initproc

import (
	"syscall"
	"unsafe"

	"github.com/gantry-engine/gantry/runtime/program"
	"github.com/gantry-engine/gantry/runtime/rawfork"
)

// stayRoom is more stack than the rest of any program needs.
const stayRoom = 128 << 10

// again executes gantry-init once more, with what is left of the program. Capabilities, ids and filters belong
// to threads: this one has given them up, Go's others have what the engine has, and they share its memory. A
// process of the container that traces PID 1, as its root may, would take them over. exec leaves one thread
// with a new memory.
func (m *machine) again(rest *program.Reader) *failure {
	soft, c := m.limits.soft(), &m.command
	w := program.NewWriter().Begin(program.OpEnv).List(texts(c.env)).Begin(program.OpArgs).List(texts(c.args))
	w.Begin(program.OpKeepFDs).Num(uint64(c.keep)).Begin(program.OpStayed).Str(string(c.exe[:len(c.exe)-1])).Bool(m.terminal).Num(soft)
	proc := m.proc.fd
	if proc == none {
		proc = 0
	}
	return m.next.exec(w.Num(uint64(proc)).Append(rest.Buf).Bytes(), texts(c.args), m.sock.fd, proc)
}

// stayed goes on in the new gantry-init.
func (m *machine) stayed(o, rest *program.Reader) *failure {
	exe, terminal, soft, proc := o.Str(), o.Num() != 0, o.Num(), uintptr(o.Num())
	if o.Bad {
		return failText("init", "", 0, "an instruction is cut short")
	}
	m.command.exe, m.terminal, m.limits.nofile = cstr(string(exe)), terminal, soft
	if proc != 0 {
		cloexec(proc)
		m.proc.fd = proc
	}
	return m.stayInit(rest)
}

// stayInit forks: the first process stays behind as PID 1, reaps what dies and passes signals on; the
// other goes through the rest of the program and becomes the user's.
//
// The child has the parent's memory, and the parent waits until the child executes or ends (vfork): a
// copy of a Go process has one thread only, and hangs as soon as the runtime wants another, which a
// preemption request is enough for. On the shared stack the child must not return from
// here, and the stack must not move, so it is made large enough before; nothing shrinks it, since init
// runs without garbage collection.
//
// The child is about number 9, not 2: Go's threads, before and after again, have numbers of the same
// namespace. To choose another takes CAP_CHECKPOINT_RESTORE (clone3 with set_tid), which init must not
// have any more by now.
func (m *machine) stayInit(rest *program.Reader) *failure {
	growStack()
	pid := m.forkRest(rest)
	if pid > ^uintptr(4095) {
		return fail("init", "fork", errno(-pid))
	}
	call(sysCloseRange, 3, ^uintptr(0)>>32, 0)
	go forward(pid)
	code := reap(pid)
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, code, 0, 0)
	}
}

// forkRest gives the parent the child's number, or an error as the kernel returns it.
//
//go:noinline
func (m *machine) forkRest(rest *program.Reader) uintptr {
	pid := rawfork.Fork(syscall.SYS_CLONE, syscall.CLONE_VM|syscall.CLONE_VFORK|uintptr(syscall.SIGCHLD), 0)
	if pid == 0 {
		m.goOn(rest)
	}
	return pid
}

// goOn is the child; it never returns.
//
//go:noinline
func (m *machine) goOn(rest *program.Reader) {
	if !m.terminal {
		call(syscall.SYS_SETSID, 0, 0, 0)
	} else {
		call(syscall.SYS_SETPGID, 0, 0, 0)
		self, _ := call(syscall.SYS_GETPID, 0, 0, 0)
		group := int32(self)
		call(syscall.SYS_IOCTL, 0, 0x5410, uintptr(unsafe.Pointer(&group))) // TIOCSPGRP
	}
	m.sock.report(m.steps(rest))
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 127, 0, 0)
	}
}

//go:noinline
func growStack() {
	var room [stayRoom]byte
	touch(&room)
}

//go:noinline
func touch(b *[stayRoom]byte) { b[0] = 1 }

// forward passes every signal on but SIGCHLD, on a thread of its own. No thread of init has them
// unblocked, so each waits here until it is taken. (SIGCHLD could not be waited for like this: Go's other
// threads have it unblocked, whatever mask they were started with.)
func forward(child uintptr) {
	wanted := allSignals &^ (1 << (syscall.SIGCHLD - 1))
	for {
		sig, _, e := syscall.Syscall6(syscall.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&wanted)), 0, 0, 8, 0, 0)
		if e == 0 {
			call(syscall.SYS_KILL, child, sig, 0)
		}
	}
}

// reap waits for children until the user's program ends, and gives its exit code.
func reap(child uintptr) uintptr {
	for {
		var st syscall.WaitStatus
		pid, _, e := syscall.Syscall6(syscall.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&st)), 0, 0, 0, 0)
		switch {
		case e == syscall.EINTR:
		case e != 0:
			return 255 // no child is left: the program was reaped by nobody else, so this cannot be
		case pid != child || st.Stopped() || st.Continued():
		case st.Signaled():
			return uintptr(128 + int(st.Signal()))
		default:
			return uintptr(st.ExitStatus())
		}
	}
}
