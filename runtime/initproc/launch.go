//go:build linux

package initproc

import (
	"syscall"
	"unsafe"

	"github.com/gantry-engine/gantry/runtime/program"
)

type hook struct {
	path    string
	args    []string
	env     []string
	timeout int
	point   int
}

func (m *machine) stepLaunch(op program.Op, o *program.Reader) *failure {
	switch op {
	case program.OpHook:
		return m.hookPoint(byte(o.Num()))
	case program.OpHookRun:
		h := hook{point: o.Int(), path: string(o.Str()), args: texts(o.List()), env: texts(o.List()), timeout: o.Int()}
		return m.runHook(&h)
	case program.OpTerminal:
		return m.openTerminal(o.Num(), o.Num(), o.Num())
	case program.OpSession:
		if _, e := call(syscall.SYS_SETSID, 0, 0, 0); e != 0 && e != syscall.EPERM {
			return fail("session", "", e)
		}
	case program.OpEnv:
		m.envText = o.List()
	case program.OpArgs:
		m.argText = o.List()
	case program.OpKeepFDs:
		m.keep = o.Int()
	case program.OpLookup:
		return m.lookup()
	case program.OpGate:
		return m.sock.gate(o.Num() != 0)
	case program.OpExec:
		return m.exec()
	}
	return nil
}

func texts(l [][]byte) []string {
	s := make([]string, len(l))
	for i := range l {
		s[i] = string(l[i])
	}
	return s
}

func (m *machine) hookPoint(point byte) *failure {
	if e := m.sock.ask(program.MsgHook, []byte{point}, none); e != 0 {
		return fail("hook", "", e)
	}
	return nil
}

const (
	pipeRoom    = 64 << 10 // bytes that any pipe takes without a reader
	setPipeSize = 1031     // F_SETPIPE_SZ
)

// runHook runs a program with the container's state on its standard input.
func (m *machine) runHook(h *hook) *failure {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return failText("hook", h.path, 0, cat("hook ", h.path, ": ", err.Error()))
	}
	if len(m.sock.state) > pipeRoom { // a hook need not read it
		if _, e := call(syscall.SYS_FCNTL, uintptr(p[1]), setPipeSize, uintptr(len(m.sock.state))); e != 0 {
			return failText("hook", h.path, e, cat("hook ", h.path, ": the container's state of ", itoa(len(m.sock.state)), " bytes is too long for a pipe: ", e.Error()))
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
	writeAll(uintptr(p[1]), m.sock.state)
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

const (
	devptsMagic = 0x1cd1
	tiocSCTTY   = 0x540e
	tiocSWINSZ  = 0x5414
	tiocGPTPeer = 0x5441
	tiocSPTLCK  = 0x40045431
)

// openTerminal takes a terminal from the container's own devpts and sends the master
// to the parent. The slave is had from the master itself, so that nothing that
// the container put at /dev/pts or /dev/console can take its place (CVE-2025-52565).
func (m *machine) openTerminal(flags, rows, cols uint64) *failure {
	master, e := openat2(m.root.handle(), []byte("/dev/pts/ptmx\x00"), syscall.O_RDWR|syscall.O_NOCTTY, 0, resolveRoot)
	if e == syscall.ENOENT || e == syscall.EACCES {
		master, e = openat2(m.root.handle(), []byte("/dev/ptmx\x00"), syscall.O_RDWR|syscall.O_NOCTTY, 0, resolveRoot)
	}
	if e != 0 {
		return fail("terminal", "/dev/pts/ptmx", e)
	}
	defer closeFD(master)
	var st syscall.Statfs_t
	if _, e := call(syscall.SYS_FSTATFS, master, uintptr(unsafe.Pointer(&st)), 0); e != 0 || st.Type != devptsMagic {
		return failText("terminal", "/dev/pts/ptmx", e, "terminal: /dev/pts of the container is not a devpts file system")
	}
	var unlock int32
	call(syscall.SYS_IOCTL, master, tiocSPTLCK, uintptr(unsafe.Pointer(&unlock)))
	slave, e := call(syscall.SYS_IOCTL, master, tiocGPTPeer, syscall.O_RDWR|syscall.O_NOCTTY|oCloexec)
	if e != 0 {
		return fail("terminal", "opening the slave", e)
	}
	defer closeFD(slave)
	if rows|cols != 0 {
		size := [4]uint16{uint16(rows), uint16(cols)}
		call(syscall.SYS_IOCTL, master, tiocSWINSZ, uintptr(unsafe.Pointer(&size)))
	}
	if flags&program.TerminalConsole != 0 {
		if f := m.console(slave); f != nil {
			return f
		}
	}
	if e := m.sock.ask(program.MsgTerminal, nil, master); e != 0 {
		return fail("terminal", "handing over the master", e)
	}
	for fd := uintptr(0); fd < 3; fd++ {
		if _, e := call(syscall.SYS_DUP3, slave, fd, 0); e != 0 {
			return fail("terminal", "", e)
		}
	}
	call(syscall.SYS_SETSID, 0, 0, 0)
	if _, e := call(syscall.SYS_IOCTL, 0, tiocSCTTY, 0); e != 0 {
		return fail("terminal", "making it the controlling one", e)
	}
	m.terminal = true
	return nil
}

func (m *machine) console(slave uintptr) *failure {
	m.root.leaveDir()
	target, e := openat2(m.root.handle(), []byte("/dev/console\x00"), oPath|uint64(oNoFollow), 0, resolveRoot)
	if e == syscall.ENOENT {
		if e = m.root.makeOne("/dev", "console", true); e == 0 {
			target, e = openat2(m.root.handle(), []byte("/dev/console\x00"), oPath|uint64(oNoFollow), 0, resolveRoot)
		}
	}
	if e != 0 {
		return fail("console", "/dev/console", e)
	}
	defer closeFD(target)
	var st syscall.Stat_t
	if e := fstat(target, &st); e != 0 || st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		return failText("console", "/dev/console", e, "console: /dev/console is a link: refusing to follow it")
	}
	if inside, _ := onProc(target); inside {
		return failText("console", "/dev/console", syscall.EPERM, "console: /dev of the container leads into /proc: refusing to mount there")
	}
	tree, e := openTree(slave, nil, treeClone|atEmptyPath)
	if e != 0 {
		return fail("console", "/dev/console", e)
	}
	defer closeFD(tree)
	if e := moveMount(tree, target); e != 0 {
		return fail("console", "/dev/console", e)
	}
	return nil
}

// lookup finds the executable as execvp does, with the texts that Docker's clients know.
func (m *machine) lookup() *failure {
	if len(m.argText) == 0 || len(m.argText[0]) == 0 {
		return failText("exec", "", syscall.ENOENT, "exec: no command: executable file not found in $PATH")
	}
	name := string(m.argText[0])
	for i := range name {
		if name[i] == '/' {
			if f := m.executable(name); f != nil {
				return f
			}
			m.exe = cstr(name)
			return nil
		}
	}
	path, found := "", false
	for _, e := range m.envText {
		if len(e) >= 5 && string(e[:5]) == "PATH=" {
			path, found = string(e[5:]), true
		}
	}
	if !found {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	denied := false
	for _, dir := range fields(path, ':') {
		if dir == "" {
			dir = "."
		}
		full := cat(dir, "/", name)
		f := m.executable(full)
		if f == nil {
			m.exe = cstr(full)
			return nil
		}
		denied = denied || f.errno == syscall.EACCES && f.path == "denied"
	}
	if denied {
		return failText("exec", name, syscall.EACCES, cat("exec: \"", name, "\": permission denied"))
	}
	return failText("exec", name, syscall.ENOENT, cat("exec: \"", name, "\": executable file not found in $PATH"))
}

// executable tells why path cannot be executed by the user that init is by now, or nil.
func (m *machine) executable(path string) *failure {
	b := cstr(path)
	var st syscall.Stat_t
	_, e := call6(newfstatatNumber, atFDCWD, ptr(b), uintptr(unsafe.Pointer(&st)), 0, 0, 0)
	if e != 0 {
		return failText("exec", path, e, cat("exec: \"", path, "\": stat ", path, ": ", e.Error()))
	}
	if st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		return failText("exec", path, syscall.EACCES, cat("exec: \"", path, "\": is a directory"))
	}
	if _, e := call6(syscall.SYS_FACCESSAT, atFDCWD, ptr(b), 1, 0, 0, 0); e != 0 {
		return failText("exec", "denied", e, cat("exec: \"", path, "\": ", e.Error()))
	}
	return nil
}

// exec becomes the user's program.
func (m *machine) exec() *failure {
	args, env := pointers(m.argText), pointers(m.envText)
	if m.exe == nil {
		if f := m.lookup(); f != nil {
			return f
		}
	}
	resetSignals()
	call6(syscall.SYS_PRCTL, prSetTimerslack, defaultSlack, 0, 0, 0, 0) // spawn raised it
	setSignals(0)
	m.restoreNofile()
	if m.keep >= 0 {
		call(sysCloseRange, uintptr(3+m.keep), ^uintptr(0)>>32, 4) // close on exec
	}
	m.sock.send(program.MsgExec, nil, none)
	_, e := call(syscall.SYS_EXECVE, ptr(m.exe), uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&env[0])))
	path := string(m.exe[:len(m.exe)-1])
	text := e.Error()
	return failText("exec", path, e, cat("exec ", path, ": ", text))
}

func pointers(l [][]byte) []*byte {
	out := make([]*byte, 0, len(l)+1)
	for _, s := range l {
		if len(s) == 0 {
			out = append(out, &zeroByte[0])
			continue
		}
		out = append(out, &s[0])
	}
	return append(out, nil)
}

// resetSignals makes SIGHUP and SIGINT default again if the engine was started with them
// ignored; all others have a handler of Go's, which exec resets.
func resetSignals() {
	type action struct{ handler, flags, restorer, mask uint64 }
	var def action
	for _, s := range [...]uintptr{1, 2} {
		call6(syscall.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&def)), 0, 8, 0, 0)
	}
}

const allSignals = ^uint64(0)

// setSignals sets the calling thread's mask of blocked signals.
func setSignals(mask uint64) {
	call6(syscall.SYS_RT_SIGPROCMASK, 2, uintptr(unsafe.Pointer(&mask)), 0, 8, 0, 0)
}
