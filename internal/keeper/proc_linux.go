package keeper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
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
	watches  map[*watch]struct{}
	exit     *keeperproto.Exited // seen
	reapWait int                 // tries to learn an exit that another process saw
	drained  bool                // no more output will be taken
	flushed  bool                // the log has everything
	told     bool                // gantryd may know
	gone     bool                // forgotten: folder removed, descriptors closed
}

// meta is what a new keeper must know of a process; it is on disk before the process runs.
type meta struct {
	key       spec.ProcessKey
	gen       uint64
	pid       int
	startTick uint64 // from /proc/PID/stat: with the PID it names a process for good
	terminal  bool
	stdin     bool
	log       keeperproto.Log
	oomFile   string
	oomBase   uint64 // the counter at launch
	note      []byte // gantryd's
}

// encode reuses the Launch message's shape, with the further numbers in front.
func (m meta) encode() []byte {
	var b []byte
	b = binary.BigEndian.AppendUint64(b, m.gen)
	b = binary.BigEndian.AppendUint64(b, uint64(m.pid))
	b = binary.BigEndian.AppendUint64(b, m.startTick)
	b = binary.BigEndian.AppendUint64(b, m.oomBase)
	return append(b, keeperproto.Launch{
		Key: m.key, Terminal: m.terminal, Stdin: m.stdin, Log: m.log, OOMFile: m.oomFile, Note: m.note,
	}.Encode()...)
}

func decodeMeta(b []byte) (m meta, err error) {
	if len(b) < 32 {
		return m, fmt.Errorf("meta: %w", keeperproto.ErrMalformed)
	}
	l, err := keeperproto.DecodeLaunch(b[32:])
	if err != nil {
		return m, err
	}
	return meta{
		gen: binary.BigEndian.Uint64(b), pid: int(binary.BigEndian.Uint64(b[8:])),
		startTick: binary.BigEndian.Uint64(b[16:]), oomBase: binary.BigEndian.Uint64(b[24:]),
		key: l.Key, terminal: l.Terminal, stdin: l.Stdin, log: l.Log, oomFile: l.OOMFile, note: l.Note,
	}, nil
}

func (p *proc) writeMeta() error {
	return atomicfile.WriteVolatile(filepath.Join(p.dir, metaName), p.meta.encode(), 0o600)
}

// startTick reads when a process started, in clock ticks since boot.
func startTick(pid int) (uint64, error) {
	f, err := statFields(pid)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(f[19], 10, 64)
}

// zombieStatus reads the wait status of a process that has ended and was not reaped, whoever its
// parent is: proc_pid_stat(5), fields 3, 22 and 52.
func zombieStatus(pid int, tick uint64) (int32, error) {
	f, err := statFields(pid)
	if err != nil {
		return 0, err
	}
	if f[0] != "Z" || len(f) < 50 || f[19] != strconv.FormatUint(tick, 10) {
		return 0, fmt.Errorf("process %d is no zombie: %w", pid, os.ErrNotExist)
	}
	n, err := strconv.ParseInt(f[49], 10, 32)
	return int32(n), err
}

// statFields splits /proc/PID/stat from field 3, the state, on.
func statFields(pid int) ([]string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	// The command's name, in parentheses, may contain anything.
	i := strings.LastIndexByte(string(b), ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat: %w", pid, keeperproto.ErrMalformed)
	}
	return f, nil
}

// newProc makes the folder, FIFOs, spool and slot of a process to be launched.
func newProc(dir, name string, l keeperproto.Launch, gen uint64) (p *proc, err error) {
	p = blankProc(dir, name, l.Key, gen)
	p.meta = meta{key: l.Key, gen: gen, terminal: l.Terminal, stdin: l.Stdin, log: l.Log, oomFile: l.OOMFile, note: bytes.Clone(l.Note)}
	p.log.cfg = l.Log
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
		sp: spool{fd: -1}, log: logWriter{fd: -1},
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

func closeFD(fd *int) {
	if *fd >= 0 {
		_ = unix.Close(*fd)
		*fd = -1
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
	p.log.close()
	if p.sp.slot != nil {
		p.sp.slot.unmap()
		p.sp.slot = nil
	}
}

// alive tells whether the process has not been seen to end. p.mu is held.
func (p *proc) alive() bool { return p.exit == nil }

// waitsForLog tells whether the process's output stays in its pipes until the log has caught up.
func (p *proc) waitsForLog() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused
}

// readExit reads the exit record in a process's folder; nil if there is none.
func readExit(dir string) (*keeperproto.Exited, error) {
	b, err := os.ReadFile(filepath.Join(dir, keeperproto.ExitName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	x, err := keeperproto.DecodeExited(b)
	if err != nil {
		return nil, err
	}
	return &x, nil
}
