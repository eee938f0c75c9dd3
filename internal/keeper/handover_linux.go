package keeper

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
)

// handoverEnv names the descriptor of the list of descriptors that an exec'ed keeper inherits.
const handoverEnv = "GANTRY_KEEPER_HANDOVER"

// handover is what a keeper gives to the binary that it executes: its lock and copies of its processes' descriptors, which
// live through the exec, and a list of them in a memory file. The anchor has the descriptors too, but may die at that
// instant; and a lock that was let go for a moment would let another keeper in.
type handover struct {
	list   int
	copies []int
}

// inheritance is what a keeper finds that was executed by another one.
type inheritance struct {
	lock int // -1 is none
	held map[string]heldProc
}

// handOver makes copies of everything. It runs besides the loop, which goes on meanwhile.
func handOver(lock int, t *table, loop *eventLoop) (*handover, error) {
	fd, err := unix.MemfdCreate("keeper-handover", 0)
	if err != nil {
		return nil, err
	}
	h := &handover{list: fd}
	w := &bytes.Buffer{}
	copied, err := unix.Dup(lock)
	if err != nil {
		h.close()
		return nil, err
	}
	h.copies = append(h.copies, copied)
	fmt.Fprintln(w, copied)
	for _, p := range t.all() {
		done := make(chan struct{})
		loop.post(func() { defer close(done); h.add(w, p) })
		<-done
	}
	if _, err := unix.Pwrite(fd, w.Bytes(), 0); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// add copies one process's descriptors. Only the loop calls it.
func (h *handover) add(w io.Writer, p *proc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return
	}
	fmt.Fprintf(w, "%s %d", p.name, p.pid)
	for _, d := range []struct {
		kind keeperproto.FDKind
		fd   int
	}{
		{keeperproto.FDPid, p.pidfd}, {keeperproto.FDStdout, p.in[0]}, {keeperproto.FDStderr, p.in[1]},
		{keeperproto.FDStdin, p.stdin}, {keeperproto.FDTerminal, p.tty},
	} {
		if d.fd < 0 {
			continue
		}
		if c, err := unix.Dup(d.fd); err == nil { // without descriptors left, the anchor's have to do
			h.copies = append(h.copies, c)
			fmt.Fprintf(w, " %d:%d", d.kind, c)
		}
	}
	fmt.Fprintln(w)
}

func (h *handover) env() string { return handoverEnv + "=" + strconv.Itoa(h.list) }

// close takes all back.
func (h *handover) close() {
	for _, fd := range append(h.copies, h.list) {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// inherit gives what the binary before handed over; nothing if there was none.
func inherit() inheritance {
	i := inheritance{lock: -1, held: map[string]heldProc{}}
	v, ok := os.LookupEnv(handoverEnv)
	if !ok {
		return i
	}
	_ = os.Unsetenv(handoverEnv)
	fd, err := strconv.Atoi(v)
	if err != nil {
		return i
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "handover")
	if f == nil {
		return i
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	if lines.Scan() {
		if i.lock, err = strconv.Atoi(lines.Text()); err != nil {
			i.lock = -1
			return i
		}
		unix.CloseOnExec(i.lock)
	}
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			continue
		}
		pid, err := strconv.Atoi(words[1])
		if err != nil {
			continue
		}
		p := heldProc{pid: pid, fds: map[keeperproto.FDKind]int{}}
		for _, w := range words[2:] {
			var kind keeperproto.FDKind
			var fd int
			if _, err := fmt.Sscanf(w, "%d:%d", &kind, &fd); err == nil {
				unix.CloseOnExec(fd)
				p.fds[kind] = fd
			}
		}
		i.held[words[0]] = p
	}
	return i
}

// with adds what the anchor gave back, and closes what is here already.
func (i inheritance) with(anchor map[string]heldProc) map[string]heldProc {
	for name, o := range anchor {
		h, ok := i.held[name]
		if !ok {
			i.held[name] = o
			continue
		}
		for kind, fd := range o.fds {
			if _, ok := h.fds[kind]; ok {
				_ = unix.Close(fd)
			} else {
				h.fds[kind] = fd
			}
		}
	}
	return i.held
}
