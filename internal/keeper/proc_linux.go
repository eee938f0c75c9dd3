package keeper

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Names in a process's folder.
const (
	metaName   = "meta"
	slotName   = "slot"
	spoolName  = "spool"
	forgotName = "forgotten" // nobody wants it, but something still writes to its FIFO
)

var fifoNames = [2]string{"out", "err"}

// proc is one process, alive or ended and not yet forgotten.
type proc struct {
	key  spec.ProcessKey
	name string // folder
	dir  string
	id   int32 // in epoll events
	gen  uint64

	meta meta

	// The loop's own.
	in     [2]int // FIFO read ends by stream, -1 at end of file
	tty    int    // terminal master, -1
	ready  uint8  // bits of streams that may have data
	queued bool
	sink   bool // forgotten: output is thrown away

	mu       sync.Mutex
	pid      int
	pidfd    int
	child    bool // this keeper is the parent
	stdin    int  // write end, -1
	mountNS  int  // -1
	sp       spool
	log      logWriter
	logPos   uint64 // frame position that the log writer has committed
	logBusy  bool   // a worker is at it
	paused   bool   // waits for its log
	watches  audience
	exit     *keeperproto.Exited // seen
	reapWait int                 // tries to learn an exit that another process saw
	drained  bool                // no more output will be taken
	flushed  bool                // the log has everything
	told     bool                // gantryd may know
	gone     bool                // forgotten: folder removed, descriptors closed
}

// newProc makes the folder, FIFOs, spool and slot of a process to be launched.
func newProc(dir, name string, l keeperproto.Launch, gen uint64) (p *proc, err error) {
	p = blankProc(dir, name, l.Key, gen)
	p.meta = meta{key: l.Key, gen: gen, terminal: l.Terminal, stdin: l.Stdin, log: l.Log, oomFile: l.OOMFile, note: bytes.Clone(l.Note)}
	p.log.file.cfg = l.Log
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.closeAll()
			_ = os.RemoveAll(p.dir)
		}
	}()
	for i := range p.in {
		if i == 1 && l.Terminal {
			break
		}
		path := filepath.Join(p.dir, fifoNames[i])
		if err := unix.Mkfifo(path, 0o666); err != nil {
			return nil, fmt.Errorf("making %s: %w", path, err)
		}
		// Whoever the process is, it may open /proc/self/fd/1 again; the folder keeps others out.
		if err := os.Chmod(path, 0o666); err != nil {
			return nil, err
		}
	}
	if err := p.openFiles(unix.O_CREAT | unix.O_EXCL); err != nil {
		return nil, err
	}
	p.sp.slot.magic, p.sp.slot.gen = slotMagic, gen
	return p, nil
}

func blankProc(dir, name string, key spec.ProcessKey, gen uint64) *proc {
	return &proc{
		key: key, name: name, dir: filepath.Join(dir, name), gen: gen,
		in: [2]int{-1, -1}, tty: -1, pidfd: -1, stdin: -1, mountNS: -1,
		sp: spool{fd: -1}, log: logWriter{file: logFile{fd: -1}},
	}
}

// openFiles opens spool and slot.
func (p *proc) openFiles(flags int) error {
	fd, err := unix.Open(filepath.Join(p.dir, spoolName), unix.O_RDWR|unix.O_CLOEXEC|flags, 0o600)
	if err != nil {
		return fmt.Errorf("opening the spool of %s: %w", p.key, err)
	}
	p.sp.fd = fd
	sfd, err := unix.Open(filepath.Join(p.dir, slotName), unix.O_RDWR|unix.O_CLOEXEC|flags, 0o600)
	if err != nil {
		return fmt.Errorf("opening the slot of %s: %w", p.key, err)
	}
	defer unix.Close(sfd)
	p.sp.slot, err = mapSlot(sfd)
	return err
}

// openFIFO opens the n-th FIFO without waiting for the other side.
func (p *proc) openFIFO(n, mode int) (int, error) {
	return unix.Open(filepath.Join(p.dir, fifoNames[n]), mode|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}

// openLog opens the log file before the process runs, so that a bad path fails the launch.
func (p *proc) openLog() error {
	if p.meta.log.Driver == keeperproto.LogNone {
		return nil
	}
	size, err := p.log.file.open()
	if err != nil {
		return protoError(keeperproto.ClassInvalid, "launching %s: %v", p.key, err)
	}
	cur := logCursor{}
	if cur.offset = p.log.file.repair(size); cur.offset < size {
		if err := unix.Ftruncate(p.log.file.fd, cur.offset); err != nil {
			return err
		}
	}
	p.sp.slot.store(&cur)
	failpoint.Hit("keeper.launch-log-opened")
	return nil
}

// openStdio opens both sides of the process's pipes and gives the process's.
func (p *proc) openStdio(l keeperproto.Launch, req *SpawnRequest) (theirs []int, err error) {
	if l.Terminal {
		// The FIFO is between terminal and spool; the keeper has both its ends.
		p.in[0], err = p.openFIFO(0, unix.O_RDWR)
		return nil, err
	}
	for i := range p.in {
		if p.in[i], err = p.openFIFO(i, unix.O_RDONLY); err != nil {
			return theirs, err
		}
		// For reading too: then it never sees SIGPIPE, whoever of us dies.
		fd, err := unix.Open(filepath.Join(p.dir, fifoNames[i]), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return theirs, err
		}
		theirs = append(theirs, fd)
	}
	req.Stdout, req.Stderr = theirs[0], theirs[1]
	if !l.Stdin {
		return theirs, nil
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return theirs, err
	}
	_ = unix.Fchmod(pipe[0], 0o666)
	_ = unix.SetNonblock(pipe[1], true)
	req.Stdin, p.stdin = pipe[0], pipe[1]
	return append(theirs, pipe[0]), nil
}

func closeFD(fd *int) {
	if *fd >= 0 {
		_ = unix.Close(*fd)
		*fd = -1
	}
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

func (p *proc) closeAll() {
	closeFD(&p.in[0])
	closeFD(&p.in[1])
	closeFD(&p.tty)
	closeFD(&p.pidfd)
	closeFD(&p.stdin)
	closeFD(&p.mountNS)
	closeFD(&p.sp.fd)
	p.log.file.close()
	if p.sp.slot != nil {
		p.sp.slot.unmap()
		p.sp.slot = nil
	}
}

// alive is runs where p.mu is held.
func (p *proc) alive() bool { return p.exit == nil }

// runs tells whether the process has not been seen to end.
func (p *proc) runs() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive()
}

// waitsForLog tells whether the process's output stays in its pipes until the log has caught up.
func (p *proc) waitsForLog() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused
}

// handle gives one of the process's descriptors, or -1. p.mu is held.
func (p *proc) handle(name string) int {
	switch name {
	case "stdin":
		if p.tty >= 0 {
			return p.tty
		}
		return p.stdin
	case "terminal":
		return p.tty
	case "pidfd":
		return p.pidfd
	case "mnt":
		return p.mountNS
	}
	return -1
}

// viewFDs opens spool and slot for a reader. p.mu is held.
func (p *proc) viewFDs() ([]int, error) {
	var fds []int
	for _, name := range []string{spoolName, slotName} {
		fd, err := unix.Open(p.dir+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			closeFDs(fds)
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}
