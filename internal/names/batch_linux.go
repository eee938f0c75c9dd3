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
	asked    [batchSize][MaxQuestion + 1]byte // one more tells what is too large
	said     [batchSize][MaxDatagram]byte
	replies  int
}

// mmsghdr is the kernel's struct of that name (sendmmsg(2)).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

func newBatch() *batch {
	b := &batch{}
	for i := range b.in {
		b.inVec[i].Base = &b.asked[i][0]
		b.inVec[i].SetLen(len(b.asked[i]))
		b.in[i].hdr.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		b.in[i].hdr.Iov = &b.inVec[i]
		b.in[i].hdr.SetIovlen(1)
		b.out[i].hdr.Iov = &b.outVec[i]
		b.out[i].hdr.SetIovlen(1)
	}
	return b
}

// receive takes what waits, and tells how many messages there are.
func (b *batch) receive(fd int) int {
	b.replies = 0
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

// answer notes a reply to message i, which lies in its room.
func (b *batch) answer(i int, said []byte) {
	m, v := &b.out[b.replies], &b.outVec[b.replies]
	v.Base = &said[0]
	v.SetLen(len(said))
	m.hdr.Name, m.hdr.Namelen = b.in[i].hdr.Name, unix.SizeofSockaddrInet4
	b.replies++
}

// send sends the replies. What the kernel does not take is lost, as datagrams may be.
func (b *batch) send(fd int) {
	for at := 0; at < b.replies; {
		n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.out[at])), uintptr(b.replies-at), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch {
		case e == unix.EINTR:
		case e != 0:
			at++ // the first one cannot be sent
		default:
			at += int(n)
		}
	}
}
