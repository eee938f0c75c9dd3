//go:build linux && (amd64 || arm64)

package spawn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime/program"
)

const maxMessage = 1 << 20

// Handler answers what init asks for while it works. Every field may be nil.
type Handler struct {
	// Terminal takes the terminal's master; it owns the descriptor.
	Terminal func(master int) error
	// Hook is called at a hook point; its answer is the container's state as JSON.
	Hook func(point int) ([]byte, error)
	// Warning tells of something that was left out.
	Warning func(text string)
	// Notify takes the seccomp listener; it owns the descriptor.
	Notify func(listener int) error
	// Ready is called when init waits at the gate. Returning true makes Run return at once.
	Ready func() (stop bool)
}

// Run sends the program and serves init until the user's program was executed
// (nil) or the launch failed (*Error). It blocks; call it from a goroutine of its own
// where that matters.
func (p *Process) Run(h Handler) error {
	defer p.sock.Close()
	err := p.run(h)
	if p.late != nil {
		if why := p.late(); why != nil && err != nil {
			return why
		}
	}
	return err
}

func (p *Process) run(h Handler) error {
	if _, err := p.sock.Write(p.prog); err != nil {
		if text := p.read(h, true); text != nil {
			return text
		}
		return failed("init", "sending the program", err)
	}
	return p.read(h, false)
}

// Abort gives up: init ends when its socket does.
func (p *Process) Abort() { _ = p.sock.Close() }

func (p *Process) read(h Handler, drain bool) error {
	executing := false
	for {
		kind, payload, fd, err := p.message()
		if err != nil {
			switch {
			case drain:
				return nil
			case errors.Is(err, io.EOF) && executing:
				return nil
			case errors.Is(err, io.EOF):
				return &Error{Stage: "init", Text: "the container's first process was killed before it could execute the program (out of memory, or killed from outside)"}
			}
			return failed("init", "", err)
		}
		stop, err := p.handle(h, kind, payload, fd)
		if stop || err != nil {
			return err
		}
		executing = kind == program.MsgExec
	}
}

func (p *Process) handle(h Handler, kind byte, payload []byte, fd int) (stop bool, err error) {
	switch kind {
	case program.MsgExec:
	case program.MsgWarning:
		if h.Warning != nil {
			h.Warning(string(payload))
		}
	case program.MsgError:
		return true, decodeError(payload)
	case program.MsgTerminal, program.MsgNotify:
		take, what := h.Terminal, "terminal"
		if kind == program.MsgNotify {
			take, what = h.Notify, "seccomp"
		}
		if take == nil {
			unix.Close(fd)
			return true, &Error{Stage: what, Text: what + ": nobody takes the descriptor"}
		}
		if err := take(fd); err != nil {
			return true, failed(what, "", err)
		}
		return false, p.send(nil)
	case program.MsgHook:
		var state []byte
		if h.Hook != nil && len(payload) > 0 {
			if state, err = h.Hook(int(payload[0])); err != nil {
				return true, failed("hook", "", err)
			}
		}
		return false, p.send(state)
	case program.MsgReady:
		if h.Ready != nil && h.Ready() {
			return true, nil
		}
	default:
		return true, &Error{Stage: "init", Text: fmt.Sprintf("gantry-init said %q, which is not part of the protocol", kind)}
	}
	return false, nil
}

func (p *Process) send(state []byte) error {
	b := append([]byte{program.MsgGo, 0, 0, 0, 0}, state...)
	binary.LittleEndian.PutUint32(b[1:], uint32(len(state)))
	if _, err := p.sock.Write(b); err != nil {
		return failed("init", "answering", err)
	}
	return nil
}

// message reads one message, with the descriptor that came along, or -1.
func (p *Process) message() (kind byte, payload []byte, fd int, err error) {
	fd = -1
	var head [5]byte
	if err := p.receive(head[:], &fd); err != nil {
		return 0, nil, fd, err
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if n > maxMessage {
		return 0, nil, fd, errors.New("gantry-init sent a message that is too long")
	}
	payload = make([]byte, n)
	if n > 0 {
		err = p.receive(payload, &fd)
	}
	return head[0], payload, fd, err
}

func (p *Process) receive(b []byte, fd *int) error {
	raw, err := p.sock.SyscallConn()
	if err != nil {
		return err
	}
	oob := make([]byte, unix.CmsgSpace(4))
	for len(b) > 0 {
		var n, oobn int
		var rerr error
		err := raw.Read(func(s uintptr) bool {
			n, oobn, _, _, rerr = unix.Recvmsg(int(s), b, oob, unix.MSG_CMSG_CLOEXEC)
			return !errors.Is(rerr, unix.EAGAIN)
		})
		if err == nil {
			err = rerr
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		if oobn > 0 {
			takeFD(oob[:oobn], fd)
		}
		b = b[n:]
	}
	return nil
}

func takeFD(oob []byte, fd *int) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, f := range fds {
			if *fd >= 0 {
				unix.Close(*fd)
			}
			*fd = f
		}
	}
}

func decodeError(b []byte) *Error {
	r := program.Reader{Buf: b}
	e := &Error{Stage: string(r.Str()), Path: string(r.Str()), Errno: syscall.Errno(r.Num()), Text: string(r.Str())}
	switch {
	case r.Bad:
		e.Text = "gantry-init failed and could not say why"
	case e.Text == "":
		e.Text = e.Stage
		if e.Path != "" {
			e.Text += " " + e.Path
		}
		if e.Errno != 0 {
			e.Text += ": " + e.Errno.Error()
		}
	}
	return e
}
