package cgroup

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OOMs watches any number of cgroups for the kernel's out-of-memory killer, with one goroutine.
//
// On v1 the kernel signals an event descriptor for each cgroup, before it kills (cgroup-v1/memory.rst,
// section 10); on v2 inotify tells of a change of memory.events, afterwards (cgroup-v2.rst, memory.events).
type OOMs struct {
	mu      sync.Mutex
	epoll   *os.File // waited for by Go's own poller: no thread is held
	inotify int      // v2 only; -1 until a cgroup needs it
	signals map[int32]*OOM
	watches map[int32]*OOM
}

// OOM is one cgroup that is watched.
type OOM struct {
	set    *OOMs
	file   string
	struck func()
	id     int32 // event descriptor on v1, watch on v2
	v2     bool

	mu    sync.Mutex
	ended bool
	kills uint64
	held  uint64 // processes that wait, as killing is switched off
}

// oomRetries are the waits for a kill that was announced.
var oomRetries = []time.Duration{time.Millisecond, 4 * time.Millisecond, 16 * time.Millisecond, 64 * time.Millisecond, 256 * time.Millisecond, time.Second}

// Watch looks at a cgroup's own counter of kills from now on. struck is called, in a goroutine of its own,
// whenever it has grown; at once if it is not zero.
func (s *OOMs) Watch(dirs map[string]string, struck func()) (*OOM, error) {
	o := &OOM{set: s, struck: struck}
	dir := dirs["memory"]
	if o.file = filepath.Join(dir, "memory.oom_control"); dir == "" {
		if dir = dirs[""]; dir == "" {
			return nil, fmt.Errorf("watching for kills: %w: no memory controller", os.ErrNotExist)
		}
		o.v2, o.file = true, filepath.Join(dir, "memory.events")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		return nil, err
	}
	if o.v2 {
		wd, err := unix.InotifyAddWatch(s.inotify, o.file, unix.IN_MODIFY)
		if err != nil {
			return nil, &os.PathError{Op: "inotify_add_watch", Path: o.file, Err: err}
		}
		o.id = int32(wd)
		s.watches[o.id] = o
	} else if err := s.signal(o, dir); err != nil {
		return nil, err
	}
	if o.holds() { // announced before, and counted before anybody asks
		go struck()
	} else {
		go o.look(len(oomRetries))
	}
	return o, nil
}

// signal has the kernel signal an event descriptor that is waited for. s.mu is held.
func (s *OOMs) signal(o *OOM, dir string) error {
	control, err := os.Open(o.file)
	if err != nil {
		return err
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	if err = s.add(fd); err == nil {
		err = os.WriteFile(filepath.Join(dir, "cgroup.event_control"), fmt.Appendf(nil, "%d %d", fd, control.Fd()), 0)
	}
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	o.id = int32(fd)
	s.signals[o.id] = o
	return nil
}

// open begins to wait, once. s.mu is held.
func (s *OOMs) open() error {
	if s.epoll != nil {
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else os.File does not poll it
		_ = unix.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	epoll := os.NewFile(uintptr(fd), "epoll")
	conn, err := epoll.SyscallConn()
	if err != nil {
		_ = epoll.Close()
		return err
	}
	inotify, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		_ = epoll.Close()
		return os.NewSyscallError("inotify_init1", err)
	}
	s.epoll, s.inotify, s.signals, s.watches = epoll, inotify, map[int32]*OOM{}, map[int32]*OOM{}
	if err := s.add(inotify); err != nil {
		_ = s.close()
		return err
	}
	go s.wait(conn, int32(inotify))
	return nil
}

func (s *OOMs) add(fd int) (err error) {
	conn, err := s.epoll.SyscallConn()
	if err != nil {
		return err
	}
	cerr := conn.Control(func(epoll uintptr) {
		err = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	})
	if cerr != nil {
		return cerr
	}
	return os.NewSyscallError("epoll_ctl", err)
}

// wait looks at what was signalled, until Close.
func (s *OOMs) wait(conn syscall.RawConn, inotify int32) {
	var events [16]unix.EpollEvent
	for {
		n := 0
		err := conn.Read(func(fd uintptr) bool {
			for {
				var err error
				if n, err = unix.EpollWait(int(fd), events[:], 0); err != unix.EINTR {
					return n != 0 || err != nil
				}
			}
		})
		if err != nil || n < 0 {
			return
		}
		for _, ev := range events[:n] {
			if ev.Fd == inotify {
				s.changed()
				continue
			}
			s.mu.Lock()
			o := s.signals[ev.Fd]
			if o != nil { // under the lock it is open, and ours
				var count [8]byte
				_, _ = unix.Read(int(ev.Fd), count[:])
			}
			s.mu.Unlock()
			if o != nil {
				o.look(0)
			}
		}
	}
}

// changed reads inotify's events.
func (s *OOMs) changed() {
	var buf [4096]byte
	s.mu.Lock()
	var hit []*OOM
	if s.epoll != nil {
		n, _ := unix.Read(s.inotify, buf[:])
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			ev := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
			if o := s.watches[ev.Wd]; o != nil {
				hit = append(hit, o)
			}
			at += unix.SizeofInotifyEvent + int(ev.Len)
		}
	}
	s.mu.Unlock()
	for _, o := range hit {
		o.look(len(oomRetries))
	}
}

// look compares the counter with what was seen last. A try below the number of retries says that a kill
// was announced: the kernel counts it a moment later, or kills in another cgroup after all.
func (o *OOM) look(try int) {
	o.mu.Lock()
	before := o.kills + o.held
	ended := o.ended
	o.mu.Unlock()
	if ended {
		return
	}
	if o.Kills() > before || try < len(oomRetries) && o.holds() {
		go o.struck()
		return
	}
	if try < len(oomRetries) {
		time.AfterFunc(oomRetries[try], func() { o.look(try + 1) })
	}
}

// holds tells whether the kernel, which has announced a kill, lets the process wait for memory
// instead (memory.oom_control on v1).
func (o *OOM) holds() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, err := os.ReadFile(o.file)
	if err != nil || o.ended || !bytes.Contains(b, []byte("oom_kill_disable 1\n")) || !bytes.Contains(b, []byte("under_oom 1\n")) {
		return false
	}
	o.held++
	return true
}

// Kills is how many processes of this very cgroup the kernel has killed, or has made wait where killing is
// switched off. Once the cgroup is gone it is the last that was seen.
func (o *OOM) Kills() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, err := os.ReadFile(o.file)
	if err != nil || o.ended {
		return o.kills + o.held
	}
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("oom_kill ")); ok {
			if n, err := strconv.ParseUint(string(v), 10, 64); err == nil {
				o.kills = max(o.kills, n)
			}
		}
	}
	return o.kills + o.held
}

// End stops watching. A call of struck may still be under way.
func (o *OOM) End() {
	o.mu.Lock()
	ended := o.ended
	o.ended = true
	o.mu.Unlock()
	if ended {
		return
	}
	o.set.mu.Lock()
	defer o.set.mu.Unlock()
	switch {
	case o.set.epoll == nil:
	case o.v2:
		delete(o.set.watches, o.id)
		_, _ = unix.InotifyRmWatch(o.set.inotify, uint32(o.id)) // the kernel may have, with the cgroup
	default:
		delete(o.set.signals, o.id)
		_ = unix.Close(int(o.id)) // the kernel takes it out of the set, and ends its signal
	}
}

// Close stops watching all.
func (s *OOMs) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.close()
}

func (s *OOMs) close() error {
	if s.epoll == nil {
		return nil
	}
	for fd := range s.signals {
		_ = unix.Close(int(fd))
	}
	_ = unix.Close(s.inotify)
	err := s.epoll.Close()
	s.epoll = nil
	return err
}
