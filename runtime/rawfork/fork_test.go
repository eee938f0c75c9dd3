//go:build linux && (amd64 || arm64)

package rawfork_test

import (
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/gantry-engine/gantry/runtime/rawfork"
)

// The parent goes on with a stack that the child has used: nothing between Fork and its caller may lie there.
func TestParentReturnsAfterTheChildUsedTheStack(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const canary = 0x5ca1ab1e
	kept := canary
	none, all := uint64(0), ^uint64(0) // a signal must not find Go's runtime in the child
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&none)), 8, 0, 0)
	pid := fork()
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
	if pid > ^uintptr(4095) {
		t.Fatal(syscall.Errno(-pid))
	}
	var st syscall.WaitStatus
	if got, err := syscall.Wait4(int(pid), &st, 0, nil); err != nil || got != int(pid) || st.ExitStatus() != 7 {
		t.Errorf("child %d: waited for %d, status %#x (%v)", pid, got, st, err)
	}
	if kept != canary {
		t.Errorf("the caller's frame has %#x", kept)
	}
}

//go:noinline
//go:norace
//go:nosplit
func fork() uintptr {
	pid := rawfork.Fork(syscall.SYS_CLONE, syscall.CLONE_VM|syscall.CLONE_VFORK|uintptr(syscall.SIGCHLD), 0)
	if pid == 0 {
		child()
	}
	return pid
}

//go:noinline
//go:norace
//go:nosplit
func child() {
	var room [256]byte
	for i := range room {
		room[i] = 0xff
	}
	for {
		syscall.RawSyscall(syscall.SYS_EXIT, uintptr(room[0])&7, 0, 0)
	}
}
