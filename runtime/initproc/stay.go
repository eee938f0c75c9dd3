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

// keepSelf opens, as long as the host's /proc is there, what again will need.
func (m *machine) keepSelf(proc bool) *failure {
	var e errno
	if m.self, e = open("/proc/self/exe", oPath); e != 0 {
		return fail("init", "/proc/self/exe", e)
	}
	name := cstr("gantry-init program")
	if m.handOn, e = call(memfdNumber, ptr(name), memfdCloexec|memfdNoExec, 0); e == syscall.EINVAL { // before Linux 6.3
		m.handOn, e = call(memfdNumber, ptr(name), memfdCloexec, 0)
	}
	if e != 0 {
		return fail("init", "memory file", e)
	}
	if proc {
		return m.procHandle()
	}
	return nil
}

const (
	memfdCloexec = 1
	memfdNoExec  = 8 // MFD_NOEXEC_SEAL
)

// again executes gantry-init once more, with what is left of the program. Capabilities, ids and filters belong
// to threads: this one has given them up, Go's others have what the engine has, and they share its memory. A
// process of the container that traces PID 1, as its root may, would take them over. exec leaves one thread
// with a new memory.
func (m *machine) again(rest *program.Reader) *failure {
	soft := m.nofile
	if soft == 0 { // as the configuration says: Go raises it again
		var l [2]uint64
		call6(syscall.SYS_PRLIMIT64, 0, rlimitNofile, 0, uintptr(unsafe.Pointer(&l)), 0, 0)
		soft = l[0]
	}
	w := program.NewWriter().Begin(program.OpEnv).List(texts(m.envText)).Begin(program.OpArgs).List(texts(m.argText))
	w.Begin(program.OpKeepFDs).Num(uint64(m.keep)).Begin(program.OpStayed).Str(string(m.exe[:len(m.exe)-1])).Bool(m.terminal).Num(soft)
	proc := m.proc
	if proc == none {
		proc = 0
	}
	e := writeAll(m.handOn, w.Num(uint64(proc)).Append(rest.Buf).Bytes())
	if e == 0 {
		_, e = call(syscall.SYS_LSEEK, m.handOn, 0, 0)
	}
	if e != 0 {
		return fail("init", "memory file", e)
	}
	for _, fd := range [3]uintptr{m.sock.fd, m.handOn, proc} {
		if fd != 0 {
			call(syscall.SYS_FCNTL, fd, syscall.F_SETFD, 0)
		}
	}
	args := [3]*byte{&cstr("gantry-init")[0], &cstr(cat(itoa(int(m.sock.fd)), ":0:", itoa(int(m.handOn))))[0]}
	env := make([]*byte, 0, 8)
	for _, v := range syscall.Environ() {
		env = append(env, &cstr(v)[0])
	}
	env = append(env, nil)
	_, e = call6(execveatNumber, m.self, ptr(nil), uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&env[0])), atEmptyPath, 0)
	if e == syscall.EPERM || e == syscall.ENOSYS { // a filter of a time before execveat
		path := cstr(cat("/proc/self/fd/", itoa(int(m.self))))
		call(syscall.SYS_EXECVE, ptr(path), uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&env[0])))
	}
	cloexec(m.sock.fd)
	return fail("init", "executing gantry-init again", e)
}

// stayed goes on in the new gantry-init.
func (m *machine) stayed(o, rest *program.Reader) *failure {
	exe, terminal, soft, proc := o.Str(), o.Num() != 0, o.Num(), uintptr(o.Num())
	if o.Bad {
		return failText("init", "", 0, "an instruction is cut short")
	}
	m.exe, m.terminal, m.nofile = cstr(string(exe)), terminal, soft
	if proc != 0 {
		cloexec(proc)
		m.proc = proc
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
