//go:build linux

package initproc

import (
	"syscall"
	"unsafe"
)

// hook is a program that runs in the container's namespaces before its own.
type hook struct {
	path    string
	args    []string
	env     []string
	timeout int
	point   int
}

const (
	pipeRoom    = 64 << 10 // bytes that any pipe takes without a reader
	setPipeSize = 1031     // F_SETPIPE_SZ
)

// run runs it with the container's state on its standard input.
func (h *hook) run(state []byte) *failure {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return failText("hook", h.path, 0, cat("hook ", h.path, ": ", err.Error()))
	}
	if len(state) > pipeRoom { // a hook need not read it
		if _, e := call(syscall.SYS_FCNTL, uintptr(p[1]), setPipeSize, uintptr(len(state))); e != 0 {
			return failText("hook", h.path, e, cat("hook ", h.path, ": the container's state of ", itoa(len(state)), " bytes is too long for a pipe: ", e.Error()))
		}
	}
	args := h.args
	if len(args) == 0 {
		args = []string{h.path}
	}
	setSignals(0)
	pid, err := syscall.ForkExec(h.path, args, &syscall.ProcAttr{Env: h.env, Files: []uintptr{uintptr(p[0]), 1, 2}})
	setSignals(allSignals)
	syscall.Close(p[0])
	if err != nil {
		syscall.Close(p[1])
		return failText("hook", h.path, 0, cat("hook ", h.path, ": ", err.Error()))
	}
	writeAll(uintptr(p[1]), state)
	syscall.Close(p[1])
	var st syscall.WaitStatus
	for waited := 0; ; waited += 5 {
		options := 0
		if h.timeout > 0 {
			options = syscall.WNOHANG
		}
		got, err := syscall.Wait4(pid, &st, options, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return failText("hook", h.path, 0, cat("hook ", h.path, ": ", err.Error()))
		}
		if got == pid {
			break
		}
		if waited >= h.timeout*1000 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, 0, nil)
			return failText("hook", h.path, syscall.ETIMEDOUT, cat("hook ", h.path, " did not end within ", itoa(h.timeout), " seconds"))
		}
		ts := syscall.Timespec{Nsec: 5e6}
		call(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
	}
	if st.Signaled() {
		return failText("hook", h.path, 0, cat("hook ", h.path, " was killed by signal ", itoa(int(st.Signal()))))
	}
	if !st.Exited() || st.ExitStatus() != 0 {
		return failText("hook", h.path, 0, cat("hook ", h.path, " ended with exit status ", itoa(st.ExitStatus())))
	}
	return nil
}
