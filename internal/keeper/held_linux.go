package keeper

import (
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
)

// heldProc is what the anchor gave back for one process.
type heldProc struct {
	pid int
	fds map[keeperproto.FDKind]int
}

// close closes what nobody took.
func (h heldProc) close() {
	for kind, fd := range h.fds {
		if fd >= 0 {
			_ = unix.Close(fd)
			h.fds[kind] = -1
		}
	}
}

// take moves a descriptor out of what the anchor gave.
func (h heldProc) take(kind keeperproto.FDKind) int {
	fd, ok := h.fds[kind]
	if !ok {
		return -1
	}
	h.fds[kind] = -1
	unix.CloseOnExec(fd)
	return fd
}

// pidfd gives the process's pidfd: the anchor's, or a new one if the number still means
// the same process.
func (h heldProc) pidfd(p *proc) int {
	if fd := h.take(keeperproto.FDPid); fd >= 0 {
		return fd
	}
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return -1
	}
	unix.CloseOnExec(fd)
	if tick, err := startTick(p.pid); err != nil || tick != p.meta.startTick {
		_ = unix.Close(fd)
		return -1
	}
	return fd
}

// hasOutput tells whether the process has written anything: gantry-init does not, so it was the user's
// program.
func (p *proc) hasOutput(h heldProc) bool {
	var st unix.Stat_t
	if unix.Fstat(p.sp.fd, &st) == nil && st.Size > 0 {
		return true
	}
	for _, kind := range []keeperproto.FDKind{keeperproto.FDStdout, keeperproto.FDStderr} {
		if fd, ok := h.fds[kind]; ok {
			if n, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err == nil && n > 0 {
				return true
			}
		}
	}
	return false
}

// streams gives p its input and its output: the anchor's descriptors, or the FIFOs opened again.
func (h heldProc) streams(p *proc) (err error) {
	p.stdin = h.take(keeperproto.FDStdin)
	p.tty = h.take(keeperproto.FDTerminal)
	if p.sp.ended() {
		return nil
	}
	mode := unix.O_RDONLY
	if p.meta.terminal {
		mode = unix.O_RDWR
	}
	kinds := []keeperproto.FDKind{keeperproto.FDStdout, keeperproto.FDStderr}
	for i := range p.in {
		if i == 1 && p.meta.terminal {
			break
		}
		if p.in[i] = h.take(kinds[i]); p.in[i] >= 0 {
			continue
		}
		if p.in[i], err = p.openFIFO(i, mode); err != nil {
			return err
		}
	}
	return nil
}
