// Package dns asks the DNS server of a container, of whatever engine, from inside its network namespace: as many
// questions as are answered, or a steady number a second with the time that each took.
package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// server is what a container's resolv.conf says on networks with names.
var server = unix.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 11}}

const (
	sockets = 1   // of Rate, a thread each
	window  = 128 // questions of a socket on their way
	askers  = 8   // sockets of Paced, a thread each
	batch   = 64  // answers that are awaited before as many are asked again
)

// errNotAnswered is an answer without an address.
var errNotAnswered = errors.New("is not answered with an address")

// Rate asks for the IPv4 address of name for a while, over a few sockets with a number of questions on their way each,
// and gives the answers per second. A datagram that is lost is made up for.
func Rate(ns *os.File, name string, lasting time.Duration) (float64, error) {
	end := time.Now().Add(lasting)
	counts, errs := make([]int, sockets), make([]error, sockets)
	var all sync.WaitGroup
	for i := range sockets {
		all.Go(func() { counts[i], errs[i] = stream(ns, name, end) })
	}
	all.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return float64(sum) / lasting.Seconds(), errors.Join(errs...)
}

func stream(ns *os.File, name string, end time.Time) (n int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, err := dial(ns)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	m := newMessages(question(name))
	if err := m.send(fd, window); err != nil {
		return 0, err
	}
	for time.Now().Before(end) {
		got, err := m.receive(fd)
		if errors.Is(err, unix.EAGAIN) { // all that were on their way are lost
			got, err = window, nil
		} else if err == nil {
			n += got
			err = m.check(name, got)
		}
		if err == nil {
			err = m.send(fd, got)
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Paced asks for the IPv4 address of name so many times a second, in turn over several sockets, and gives how long each
// question took, sorted. The time of a question that had to wait for the answer before runs from when it was due.
func Paced(ns *os.File, name string, perSecond int, lasting time.Duration) ([]time.Duration, error) {
	every := time.Second / time.Duration(perSecond)
	start := time.Now().Add(10 * time.Millisecond)
	times, errs := make([][]time.Duration, askers), make([]error, askers)
	var all sync.WaitGroup
	for i := range askers {
		all.Go(func() {
			first := start.Add(time.Duration(i) * every)
			times[i], errs[i] = ticks(ns, name, first, start.Add(lasting), askers*every)
		})
	}
	all.Wait()
	sorted := slices.Concat(times...)
	slices.Sort(sorted)
	return sorted, errors.Join(errs...)
}

// ticks asks at a steady pace from one socket.
func ticks(ns *os.File, name string, due, end time.Time, every time.Duration) (times []time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, err := dial(ns)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }()
	m := newMessages(question(name))
	for ; due.Before(end); due = due.Add(every) {
		from := due
		if wait := time.Until(due); wait > 0 {
			ts := unix.NsecToTimespec(int64(wait))
			_ = unix.Nanosleep(&ts, nil)
			from = time.Now() // if the kernel woke us up late, that is no server's fault
		}
		if err := m.send(fd, 1); err != nil {
			return nil, err
		}
		got, err := m.receive(fd)
		if err == nil {
			err = m.check(name, got)
		}
		if err != nil {
			return nil, fmt.Errorf("asking for %s: %w", name, err)
		}
		times = append(times, time.Since(from))
	}
	return times, nil
}

// Percentile of sorted times: p of 100.
func Percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(float64(len(sorted))*p/100))]
}

func dial(ns *os.File) (fd int, err error) {
	err = netlink.Do(ns, func() error {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		patience := unix.NsecToTimeval(int64(time.Second))
		err = errors.Join(unix.Connect(fd, &server), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience))
		if err != nil {
			_ = unix.Close(fd)
		}
		return err
	})
	return fd, err
}

func question(name string) []byte {
	raw := []byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for _, label := range strings.Split(strings.TrimSuffix(name, "."), ".") {
		raw = append(append(raw, byte(len(label))), label...)
	}
	return append(raw, 0, 0, 1, 0, 1)
}

// messages are a number of questions and answers for the kernel to take together (UDP_SEGMENT of udp(7), recvmmsg(2)), so
// that asking costs less than answering. The server gets one datagram for each question, as ever.
type messages struct {
	in      [window]header
	outVec  [window]unix.Iovec
	inVec   [window]unix.Iovec
	segment segment
	asked   []byte
	said    [window][512]byte
}

type header struct {
	hdr unix.Msghdr
	len uint32
}

// segment is a control message: what is sent is to go in datagrams of a size.
type segment struct {
	head unix.Cmsghdr
	size uint16
	_    [6]byte
}

// most is how many bytes are sent at once.
const most = 32 << 10

func newMessages(asked []byte) *messages {
	m := &messages{asked: asked}
	m.segment.head.Level, m.segment.head.Type, m.segment.size = unix.SOL_UDP, unix.UDP_SEGMENT, uint16(len(asked))
	m.segment.head.SetLen(unix.CmsgLen(2))
	for i := range m.in {
		m.outVec[i].Base = &asked[0]
		m.outVec[i].SetLen(len(asked))
		m.inVec[i].Base = &m.said[i][0]
		m.inVec[i].SetLen(len(m.said[i]))
		m.in[i].hdr.Iov = &m.inVec[i]
		m.in[i].hdr.SetIovlen(1)
	}
	return m
}

// send sends n questions.
func (m *messages) send(fd, n int) error {
	for n > 0 {
		now := min(n, 64, most/len(m.asked)) // the kernel cuts no more than 64
		h := unix.Msghdr{Iov: &m.outVec[0]}
		h.SetIovlen(now)
		if now > 1 {
			h.Control = (*byte)(unsafe.Pointer(&m.segment))
			h.SetControllen(int(unsafe.Sizeof(m.segment)))
		}
		_, _, e := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), 0)
		if e != 0 && e != unix.EINTR {
			return fmt.Errorf("sending questions: %w", e)
		}
		if e == 0 {
			n -= now
		}
	}
	return nil
}

// receive waits for an answer and takes the others that are there; EAGAIN after a second without any.
func (m *messages) receive(fd int) (int, error) {
	for {
		n, _, e := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.in[0])), batch, unix.MSG_WAITFORONE, 0, 0)
		if e == 0 {
			return int(n), nil
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}

// check looks whether the answers are some.
func (m *messages) check(name string, n int) error {
	for i := range n {
		said := m.said[i][:m.in[i].len]
		if len(said) < len(m.asked)+16 || said[3]&0xF != 0 || binary.BigEndian.Uint16(said[6:]) == 0 {
			return fmt.Errorf("%s %w: % x", name, errNotAnswered, said)
		}
	}
	return nil
}
