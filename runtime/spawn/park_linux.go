//go:build linux && (amd64 || arm64)

package spawn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/runtime/nofile"
	"github.com/gantry-engine/gantry/runtime/program"
)

// parkable are the namespaces a parked init may be cloned with. A mount namespace is not among them: it would be a
// picture of the host's mounts as they were then, so the adopted init leaves the caller's late.
const parkable = unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET

// Parked is a gantry-init that was cloned and executed ahead of time. It waits in its
// namespaces, in the caller's cgroup, and ends when its socket does, so that it never outlives the caller.
type Parked struct {
	pid, pidfd int
	sock       int
	namespaces uint64
}

// ParkedNamespaces gives the namespaces a parked init needs for cfg, and whether cfg can
// have one at all: user and time namespaces, joined processes, inherited descriptors, the gate
// and cgroup v2 (which one is best born in) cannot.
func ParkedNamespaces(cfg *Config) (uint64, bool) {
	f := &cfg.Facts
	switch {
	case f.Namespaces&^(parkable|unix.CLONE_NEWNS) != 0, f.Namespaces&unix.CLONE_NEWNS == 0, f.Namespaces&unix.CLONE_NEWPID == 0,
		len(f.Joins) > 0, len(cfg.Joins) > 0, cfg.TargetPIDFD >= 0, len(cfg.Keep) > 0, cfg.Gate >= 0,
		f.Cgroup2 != "", 4+len(f.Tasks) > program.ParkedFDs:
		return 0, false
	}
	return f.Namespaces & parkable, true
}

// Parker parks inits. Made early in its process's life, it spares each clone the copy, and each execution the closing, of all
// descriptors that the process will have: the few that an init needs stand below the others, and only these are taken along.
type Parker struct {
	init, null *os.File
	label      string

	mu   sync.Mutex
	slot int // the number of the next init's socket
	last int // the highest number that is taken along, or -1: the kernel is too old, all are copied
}

// NewParker prepares for parking copies of init, which is from MemFile. null is an open /dev/null. Both stay the caller's.
// label is the last word of their command lines, for whoever lists processes.
func NewParker(init, null *os.File, label string) (*Parker, error) {
	slot, err := unix.FcntlInt(null.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, failed("parking", "", err)
	}
	k := &Parker{init: init, null: null, label: label, slot: slot, last: -1}
	// Linux 5.9 has it, and the flag that is needed; this call closes nothing.
	if unix.CloseRange(^uint(0)>>33, ^uint(0)>>33, 0) == nil {
		k.last = max(slot, int(init.Fd()), int(null.Fd()))
	}
	return k, nil
}

// Close gives back what NewParker took. The parked are their holders'.
func (k *Parker) Close() error { return unix.Close(k.slot) }

// Park clones gantry-init into new namespaces of the given kinds (CLONE_NEW… flags) and lets it wait. The caller reaps the process.
func (k *Parker) Park(namespaces uint64) (*Parked, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, failed("socket", "", err)
	}
	defer unix.Close(pair[1])
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := unix.Dup3(pair[1], k.slot, unix.O_CLOEXEC); err != nil {
		unix.Close(pair[0])
		return nil, failed("socket", "", err)
	}
	// The init's end must be nobody else's: it ends when ours does. (The next one takes the number over in any case.)
	defer func() { _ = unix.Dup3(int(k.null.Fd()), k.slot, unix.O_CLOEXEC) }()
	opened := &closer{}
	defer opened.close()
	fd := int(k.null.Fd())
	cfg := &Config{Init: k.init, Stdio: [3]int{fd, fd, fd}, Gate: -1, NetNS: -1, TargetPIDFD: -1, Facts: Facts{Namespaces: namespaces}}
	c, err := prepare(cfg, k.slot, opened)
	if err == nil {
		c.argv, err = cstrings("gantry-init", fmt.Sprintf("%d:%d", program.ParkedSocket, nofile.Original()), "parked", k.label)
	}
	p := &Process{PIDFD: -1}
	if err == nil {
		if k.last >= 0 {
			c.first.flags |= unix.CLONE_FILES
			c.above = k.last + 1
		}
		err = p.clone(cfg, c)
	}
	if err != nil {
		unix.Close(pair[0])
		if p.PID != 0 {
			_, _ = unix.Wait4(p.PID, nil, unix.WALL, nil)
			unix.Close(p.PIDFD)
		}
		return nil, err
	}
	return &Parked{pid: p.PID, pidfd: p.PIDFD, sock: pair[0], namespaces: namespaces}, nil
}

// Namespaces tells what it was cloned with.
func (p *Parked) Namespaces() uint64 { return p.namespaces }

// Alive tells whether it still waits.
func (p *Parked) Alive() bool {
	fds := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 0
}

// Discard makes it end and reaps it.
func (p *Parked) Discard() {
	unix.Close(p.sock)
	_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
	for {
		if err := unix.Waitid(unix.P_PIDFD, p.pidfd, nil, unix.WEXITED|unix.WALL, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	unix.Close(p.pidfd)
}

// Adopt makes it the process of cfg, of which ParkedNamespaces gave its namespaces: it gets
// the descriptors, enters the cgroups and the network namespace, and then waits for
// the program, as after Start. After an error it is discarded.
func (p *Parked) Adopt(cfg *Config) (*Process, error) {
	proc, err := p.adopt(cfg)
	if err != nil {
		p.Discard()
		return nil, err
	}
	return proc, nil
}

func (p *Parked) adopt(cfg *Config) (*Process, error) {
	opened := &closer{}
	defer opened.close()
	fds := make([]int, 0, 4+len(cfg.Facts.Tasks))
	var holes uint64
	for i, fd := range cfg.Stdio {
		if fd < 0 { // a terminal comes later
			holes |= 1 << i
			continue
		}
		fds = append(fds, fd)
	}
	joins := uint64(0)
	if cfg.NetNS >= 0 {
		fds = append(fds, cfg.NetNS)
		joins = 1
	}
	for _, path := range cfg.Facts.Tasks {
		fd, err := opened.open(path, unix.O_WRONLY)
		if err != nil {
			return nil, failed("cgroup", path, err)
		}
		fds = append(fds, fd)
	}
	head := make([]byte, program.AdoptSize)
	binary.LittleEndian.PutUint64(head[0:], holes)
	binary.LittleEndian.PutUint64(head[8:], joins)
	binary.LittleEndian.PutUint64(head[16:], uint64(len(cfg.Facts.Tasks)))
	binary.LittleEndian.PutUint64(head[24:], cfg.Facts.Namespaces&^p.namespaces)
	if err := unix.Sendmsg(p.sock, head, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
		return nil, failed("init", "waking a parked one", err)
	}
	_ = unix.SetNonblock(p.sock, true)
	return &Process{PID: p.pid, PIDFD: p.pidfd, prog: cfg.Program, sock: os.NewFile(uintptr(p.sock), "gantry-init")}, nil
}
