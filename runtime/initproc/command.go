//go:build linux

package initproc

import (
	"syscall"
	"unsafe"

	"github.com/gantry-engine/gantry/runtime/program"
)

const (
	prSetTimerslack = 29
	defaultSlack    = 50_000 // ns, the kernel's
)

// command is the user's program.
type command struct {
	args, env [][]byte
	exe       []byte // zero-terminated path found by lookup
	keep      int    // descriptors from 3 on that it gets
}

// lookup finds the executable as execvp does, with the texts that Docker's clients know.
func (c *command) lookup() *failure {
	if len(c.args) == 0 || len(c.args[0]) == 0 {
		return failText("exec", "", syscall.ENOENT, "exec: no command: executable file not found in $PATH")
	}
	name := string(c.args[0])
	for i := range name {
		if name[i] == '/' {
			if f := executable(name); f != nil {
				return f
			}
			c.exe = cstr(name)
			return nil
		}
	}
	path, found := "", false
	for _, e := range c.env {
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
		f := executable(full)
		if f == nil {
			c.exe = cstr(full)
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
func executable(path string) *failure {
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

// setHome adds HOME to the environment where it is missing or empty.
func (c *command) setHome(u *user, a *accounts) {
	for i, e := range c.env {
		if len(e) >= 5 && string(e[:5]) == "HOME=" {
			if len(e) > 5 {
				return
			}
			c.env = append(c.env[:i:i], c.env[i+1:]...)
			break
		}
	}
	home := u.home
	if home == "" {
		home = a.home(u.uid)
	}
	if home == "" {
		home = "/"
	}
	b := cstr(cat("HOME=", home))
	c.env = append(c.env, b[:len(b)-1])
}

// exec becomes the user's program.
func (c *command) exec(sock *socket, l *limits) *failure {
	args, env := pointers(c.args), pointers(c.env)
	if c.exe == nil {
		if f := c.lookup(); f != nil {
			return f
		}
	}
	resetSignals()
	call6(syscall.SYS_PRCTL, prSetTimerslack, defaultSlack, 0, 0, 0, 0) // spawn raised it
	setSignals(0)
	l.restore()
	if c.keep >= 0 {
		call(sysCloseRange, uintptr(3+c.keep), ^uintptr(0)>>32, 4) // close on exec
	}
	sock.send(program.MsgExec, nil, none)
	_, e := call(syscall.SYS_EXECVE, ptr(c.exe), uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&env[0])))
	path := string(c.exe[:len(c.exe)-1])
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
