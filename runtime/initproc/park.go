//go:build linux

package initproc

import (
	"syscall"
	"unsafe"

	"github.com/gantry-engine/gantry/runtime/program"
)

const (
	cmsgHead   = 16 // struct cmsghdr on 64-bit machines
	msgCloexec = 0x40000000
)

// adopt waits, parked, for the word that makes this process a container's: it takes the descriptors
// that come along, enters the cgroups and the network namespace, and leaves the namespaces it
// has not left yet. It returns nil, or what failed; ok is false when the engine has gone away.
func adopt(sock uintptr) (f *failure, ok bool) {
	var head [program.AdoptSize]byte
	var oob [cmsgHead + 4*program.ParkedFDs]byte
	iov := syscall.Iovec{Base: &head[0], Len: uint64(len(head))}
	msg := syscall.Msghdr{Iov: &iov, Iovlen: 1, Control: &oob[0], Controllen: uint64(len(oob))}
	// Not a raw call: Go's monitor thread rests while this one is known to wait.
	n, _, e := syscall.Syscall(syscall.SYS_RECVMSG, sock, uintptr(unsafe.Pointer(&msg)), msgCloexec)
	if e != 0 || n != uintptr(len(head)) {
		return nil, false
	}
	num := func(i int) int {
		b := head[8*i:]
		return int(uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 | uint64(b[4])<<32 | uint64(b[5])<<40)
	}
	holes, joins, tasks, leave := num(0), num(1), num(2), num(3)
	var fds []int32
	if h := (*syscall.Cmsghdr)(unsafe.Pointer(&oob[0])); msg.Controllen >= cmsgHead && h.Len >= cmsgHead {
		fds = unsafe.Slice((*int32)(unsafe.Pointer(&oob[cmsgHead])), (h.Len-cmsgHead)/4)
	}
	want := joins + tasks
	for i := range 3 {
		if holes&(1<<i) == 0 {
			want++
		}
	}
	if len(fds) != want {
		return failText("init", "", 0, "gantry-init did not get its descriptors: the limit of open files is reached"), true
	}
	next := func() uintptr {
		fd := uintptr(fds[0])
		fds = fds[1:]
		return fd
	}
	for i := range uintptr(3) {
		if holes&(1<<i) != 0 { // it stays the null device until there is a terminal
			continue
		}
		fd := next()
		if _, e := call(syscall.SYS_DUP3, fd, i, 0); e != 0 {
			return fail("descriptors", "", e), true
		}
		closeFD(fd)
	}
	for range joins {
		fd := next()
		if _, e := call(setnsNumber, fd, syscall.CLONE_NEWNET, 0); e != 0 {
			return fail("namespace", "joining", e), true
		}
		closeFD(fd)
	}
	zero := []byte{'0'}
	for range tasks {
		fd := next()
		if _, e := call(syscall.SYS_WRITE, fd, ptr(zero), 1); e != 0 {
			return fail("cgroup", "tasks", e), true
		}
		closeFD(fd)
	}
	if leave != 0 {
		if _, e := call(syscall.SYS_UNSHARE, uintptr(leave), 0, 0); e != 0 {
			return fail("namespace", "unshare", e), true
		}
	}
	return nil, true
}
