package names

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many questions are taken from a container at once. It bounds how long the others wait for their turn.
const batchSize = 32

// batch is the buffers for one turn: they are touched, and so cost memory, only as far as questions come together.
type batch struct {
	question question
	in       [batchSize]mmsghdr
	out      [batchSize]mmsghdr
	inVec    [batchSize]unix.Iovec
	outVec   [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet4
	segment  [batchSize]segment
	asked    [batchSize][MaxQuestion + 1]byte // one more tells what is too large
	said     [batchSize][MaxDatagram]byte
	messages int  // in out
	replies  int  // in outVec; several make a message
	apart    bool // the kernel does not take several replies at once
}

// mmsghdr is the kernel's struct of that name (sendmmsg(2)).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// segment is a control message: what a message holds is to be sent in datagrams of a size (UDP_SEGMENT, udp(7)).
type segment struct {
	head unix.Cmsghdr
	size uint16
	_    [6]byte
}

func newBatch() *batch {
	b := &batch{}
	for i := range b.in {
		b.inVec[i].Base = &b.asked[i][0]
		b.inVec[i].SetLen(len(b.asked[i]))
		b.in[i].hdr.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		b.in[i].hdr.Iov = &b.inVec[i]
		b.in[i].hdr.SetIovlen(1)
		b.segment[i].head.Level, b.segment[i].head.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		b.segment[i].head.SetLen(unix.CmsgLen(2))
	}
	return b
}

// receive takes what waits, and tells how many messages there are.
func (b *batch) receive(fd int) int {
	b.messages, b.replies = 0, 0
	for i := range b.in {
		b.in[i].hdr.Namelen = unix.SizeofSockaddrInet4
	}
	n, _, e := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}

func (b *batch) message(i int) []byte { return b.asked[i][:min(int(b.in[i].len), MaxQuestion+1)] }
func (b *batch) room(i int) []byte    { return b.said[i][:0] }

func (b *batch) from(i int) unix.SockaddrInet4 {
	port := (*[2]byte)(unsafe.Pointer(&b.names[i].Port)) // in network order
	return unix.SockaddrInet4{Port: int(port[0])<<8 | int(port[1]), Addr: b.names[i].Addr}
}

// maxTogether bounds a message of several replies, as a packet has no more than 64 KiB.
const maxTogether = 60000

// answer notes a reply to message i, which lies in its room. Replies of one size that one client waits for go through the
// kernel together, which saves two thirds of the work when a client asks much at a time.
func (b *batch) answer(i int, said []byte) {
	v := &b.outVec[b.replies]
	v.Base = &said[0]
	v.SetLen(len(said))
	b.replies++
	if b.messages > 0 && !b.apart {
		last, seg := &b.out[b.messages-1], &b.segment[b.messages-1]
		to := (*unix.RawSockaddrInet4)(unsafe.Pointer(last.hdr.Name))
		if seg.size == uint16(len(said)) && to.Port == b.names[i].Port && to.Addr == b.names[i].Addr && int(last.len)+len(said) <= maxTogether {
			last.len += uint32(len(said))
			last.hdr.Iovlen++
			last.hdr.Control = (*byte)(unsafe.Pointer(seg))
			last.hdr.SetControllen(int(unsafe.Sizeof(*seg)))
			return
		}
	}
	m := &b.out[b.messages]
	m.len = uint32(len(said))
	m.hdr = unix.Msghdr{Name: b.in[i].hdr.Name, Namelen: unix.SizeofSockaddrInet4, Iov: v}
	m.hdr.SetIovlen(1)
	b.segment[b.messages].size = uint16(len(said))
	b.messages++
}

// send sends the replies. What the kernel does not take is lost, as datagrams may be.
func (b *batch) send(fd int) {
	for at := 0; at < b.messages; {
		n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.out[at])), uintptr(b.messages-at), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch {
		case e == unix.EINTR:
		case e != 0: // the first one cannot be sent
			b.apart = b.apart || b.out[at].hdr.Control != nil && e != unix.EAGAIN && e != unix.ENOBUFS
			at++
		default:
			at += int(n)
		}
	}
}
