//go:build linux

package initproc

import (
	"syscall"
	"unsafe"

	"github.com/gantry-engine/gantry/runtime/program"
)

// socket is the line to the parent (protocol: package spawn).
type socket struct {
	fd    uintptr
	state []byte // the container's, as JSON, from the parent's last answer
}

// send writes a message, with a descriptor unless fd is none.
func (s *socket) send(kind byte, payload []byte, fd uintptr) errno {
	b := make([]byte, 5+len(payload))
	b[0] = kind
	n := len(payload)
	b[1], b[2], b[3], b[4] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	copy(b[5:], payload)
	if fd == none {
		return writeAll(s.fd, b)
	}
	iov := syscall.Iovec{Base: &b[0], Len: uint64(len(b))}
	oob := syscall.UnixRights(int(fd))
	msg := syscall.Msghdr{Iov: &iov, Iovlen: 1, Control: &oob[0], Controllen: uint64(len(oob))}
	_, e := call(syscall.SYS_SENDMSG, s.fd, uintptr(unsafe.Pointer(&msg)), 0)
	return e
}

// await reads the parent's answer: the state.
func (s *socket) await() errno {
	var head [5]byte
	if e := readFull(s.fd, head[:]); e != 0 {
		return e
	}
	n := int(head[1]) | int(head[2])<<8 | int(head[3])<<16 | int(head[4])<<24
	if head[0] != program.MsgGo || n > 16<<20 {
		return syscall.EPROTO
	}
	state := make([]byte, n)
	if e := readFull(s.fd, state); e != 0 {
		return e
	}
	if n > 0 {
		s.state = state
	}
	return 0
}

// ask sends a message and waits for the answer.
func (s *socket) ask(kind byte, payload []byte, fd uintptr) errno {
	e := s.send(kind, payload, fd)
	if e == 0 {
		e = s.await()
	}
	return e
}

func (s *socket) warn(text string) { s.send(program.MsgWarning, []byte(text), none) }

func (s *socket) report(f *failure) {
	w := program.NewWriter().Begin(1)
	w.Str(f.stage).Str(f.path).Num(uint64(f.errno)).Str(f.text)
	b := w.Bytes()
	s.send(program.MsgError, b[17:], none) // without length, version and instruction head
}

// gate tells the parent that everything is set up and waits for one byte. With report, whoever wrote it
// hears the rest: the parent may be gone by now.
func (s *socket) gate(report bool) *failure {
	fd := s.fd + 1
	cloexec(fd)
	if e := s.send(program.MsgReady, nil, none); e != 0 {
		return fail("start gate", "", e)
	}
	var b [1]byte
	for {
		n, e := call(syscall.SYS_READ, fd, ptr(b[:]), 1)
		if e == syscall.EINTR {
			continue
		}
		if e != 0 || n != 1 {
			return fail("start gate", "", e)
		}
		break
	}
	closeFD(fd)
	if report {
		closeFD(s.fd)
		s.fd--
		cloexec(s.fd)
	}
	return nil
}

// readProgram reads the whole program: its length stands in front.
func readProgram(fd uintptr) ([]byte, errno) {
	var head [4]byte
	if e := readFull(fd, head[:]); e != 0 {
		return nil, e
	}
	n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16 | int(head[3])<<24
	if n < 12 || n > 64<<20 {
		return nil, syscall.EINVAL
	}
	buf := make([]byte, n-4)
	return buf, readFull(fd, buf)
}

func readFull(fd uintptr, b []byte) errno {
	for len(b) > 0 {
		n, e := call(syscall.SYS_READ, fd, ptr(b), uintptr(len(b)))
		if e == syscall.EINTR {
			continue
		}
		if e != 0 {
			return e
		}
		if n == 0 {
			return syscall.EPIPE
		}
		b = b[n:]
	}
	return 0
}
