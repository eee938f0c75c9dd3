//go:build linux

package initproc

import (
	"syscall"
	"unsafe"
)

const (
	memfdCloexec = 1
	memfdNoExec  = 8 // MFD_NOEXEC_SEAL
)

// successor is gantry-init as it is executed anew for OpStayInit.
type successor struct {
	exe     uintptr // or none
	program uintptr // a memory file for what is left of the program; or none
}

// open takes hold of both, as long as the host's /proc is there.
func (s *successor) open() *failure {
	var e errno
	if s.exe, e = open("/proc/self/exe", oPath); e != 0 {
		return fail("init", "/proc/self/exe", e)
	}
	name := cstr("gantry-init program")
	if s.program, e = call(memfdNumber, ptr(name), memfdCloexec|memfdNoExec, 0); e == syscall.EINVAL { // before Linux 6.3
		s.program, e = call(memfdNumber, ptr(name), memfdCloexec, 0)
	}
	if e != 0 {
		return fail("init", "memory file", e)
	}
	return nil
}

// exec hands on a program, and the descriptors of the socket and, unless it is 0, of a procfs. command is the user's, to be seen on
// PID 1's command line.
func (s *successor) exec(instructions []byte, command []string, sock, proc uintptr) *failure {
	e := writeAll(s.program, instructions)
	if e == 0 {
		_, e = call(syscall.SYS_LSEEK, s.program, 0, 0)
	}
	if e != 0 {
		return fail("init", "memory file", e)
	}
	for _, fd := range [3]uintptr{sock, s.program, proc} {
		if fd != 0 {
			call(syscall.SYS_FCNTL, fd, syscall.F_SETFD, 0)
		}
	}
	args := []*byte{&cstr("gantry-init")[0], &cstr(cat(itoa(int(sock)), ":0:", itoa(int(s.program))))[0], &cstr("--")[0]}
	for _, word := range command {
		args = append(args, &cstr(word)[0])
	}
	args = append(args, nil)
	env := make([]*byte, 0, 8)
	for _, v := range syscall.Environ() {
		env = append(env, &cstr(v)[0])
	}
	env = append(env, nil)
	_, e = call6(execveatNumber, s.exe, ptr(nil), uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&env[0])), atEmptyPath, 0)
	if e == syscall.EPERM || e == syscall.ENOSYS { // a filter of a time before execveat
		path := cstr(cat("/proc/self/fd/", itoa(int(s.exe))))
		call(syscall.SYS_EXECVE, ptr(path), uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&env[0])))
	}
	cloexec(sock)
	return fail("init", "executing gantry-init again", e)
}
