package keeperproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// Message is what travels: FDs are owned by the receiver.
type Message struct {
	Type    Type
	ID      uint32
	Payload []byte
	FDs     []int
}

// CloseFDs closes the descriptors that nobody took.
func (m *Message) CloseFDs() {
	for _, fd := range m.FDs {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	m.FDs = nil
}

func putHeader(h []byte, t Type, id uint32, payload, fds int) {
	binary.BigEndian.PutUint32(h[0:], uint32(payload))
	h[4], h[5] = byte(t), 0
	binary.BigEndian.PutUint16(h[6:], uint16(fds))
	binary.BigEndian.PutUint32(h[8:], id)
}

// parseHeader checks a header's bounds.
func parseHeader(h []byte) (t Type, id uint32, payload, fds int, err error) {
	if len(h) < headerSize {
		return 0, 0, 0, 0, fmt.Errorf("%w: a header of %d bytes", ErrMalformed, len(h))
	}
	n := binary.BigEndian.Uint32(h[0:])
	fds = int(binary.BigEndian.Uint16(h[6:]))
	if n > MaxPayload || fds > MaxFDs || h[5] != 0 {
		return 0, 0, 0, 0, fmt.Errorf("%w: %d bytes of payload, %d descriptors", ErrMalformed, n, fds)
	}
	return Type(h[4]), binary.BigEndian.Uint32(h[8:]), int(n), fds, nil
}

// Conn is the stream between gantryd and the keeper. Send may be called from
// several goroutines, Receive from one.
type Conn struct {
	c  *net.UnixConn
	wm sync.Mutex
	wb []byte
	rh [headerSize]byte
}

// NewConn wraps a connected stream socket.
func NewConn(c *net.UnixConn) *Conn { return &Conn{c: c} }

// Close ends the connection; a waiting Receive returns.
func (c *Conn) Close() error { return c.c.Close() }

// Send writes one message. It does not take over the descriptors.
func (c *Conn) Send(m Message) error {
	if len(m.Payload) > MaxPayload || len(m.FDs) > MaxFDs {
		return fmt.Errorf("sending a keeper message: %d bytes and %d descriptors are too many", len(m.Payload), len(m.FDs))
	}
	c.wm.Lock()
	defer c.wm.Unlock()
	c.wb = append(c.wb[:0], make([]byte, headerSize)...)
	putHeader(c.wb, m.Type, m.ID, len(m.Payload), len(m.FDs))
	c.wb = append(c.wb, m.Payload...)
	buf := c.wb
	if cap(c.wb) > 64<<10 {
		c.wb = nil
	}
	if len(m.FDs) > 0 {
		n, _, err := c.c.WriteMsgUnix(buf, unix.UnixRights(m.FDs...), nil)
		if err != nil {
			return err
		}
		buf = buf[n:]
	}
	for len(buf) > 0 {
		n, err := c.c.Write(buf)
		if err != nil {
			return err
		}
		buf = buf[n:]
	}
	return nil
}

// Receive reads one message, or io.EOF when the other side has closed.
func (c *Conn) Receive() (Message, error) {
	var m Message
	oob := make([]byte, unix.CmsgSpace(MaxFDs*4))
	got := 0
	for got < headerSize {
		n, oobn, flags, _, err := c.c.ReadMsgUnix(c.rh[got:], oob)
		if fds, ferr := parseRights(oob[:oobn]); ferr == nil {
			m.FDs = append(m.FDs, fds...)
		} else if err == nil {
			err = ferr
		}
		if err == nil && flags&unix.MSG_CTRUNC != 0 {
			err = fmt.Errorf("%w: descriptors were cut off", ErrMalformed)
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil {
			m.CloseFDs()
			if errors.Is(err, io.EOF) && got > 0 {
				err = io.ErrUnexpectedEOF
			}
			return Message{}, err
		}
		got += n
	}
	t, id, n, fds, err := parseHeader(c.rh[:])
	if err == nil && fds != len(m.FDs) {
		err = fmt.Errorf("%w: %d descriptors announced, %d came", ErrMalformed, fds, len(m.FDs))
	}
	if err != nil {
		m.CloseFDs()
		return Message{}, err
	}
	m.Type, m.ID = t, id
	m.Payload = make([]byte, n)
	if _, err := io.ReadFull(c.c, m.Payload); err != nil {
		m.CloseFDs()
		return Message{}, err
	}
	return m, nil
}

func parseRights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: control message: %v", ErrMalformed, err)
	}
	var all []int
	for i := range cmsgs {
		if cmsgs[i].Header.Level != unix.SOL_SOCKET || cmsgs[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&cmsgs[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
		all = append(all, fds...)
	}
	return all, nil
}

// maxPacket bounds what keeper and anchor say to each other in one packet.
const maxPacket = 64 << 10

// SendPacket writes one message to a seqpacket socket (keeper ↔ anchor). The
// descriptors stay the caller's.
func SendPacket(sock int, m Message) error {
	buf := make([]byte, headerSize, headerSize+len(m.Payload))
	putHeader(buf, m.Type, m.ID, len(m.Payload), len(m.FDs))
	buf = append(buf, m.Payload...)
	var oob []byte
	if len(m.FDs) > 0 {
		oob = unix.UnixRights(m.FDs...)
	}
	for {
		err := unix.Sendmsg(sock, buf, oob, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// ReceivePacket reads one message from a seqpacket socket; io.EOF when the other side is gone.
func ReceivePacket(sock int) (Message, error) {
	buf := make([]byte, maxPacket)
	oob := make([]byte, unix.CmsgSpace(MaxFDs*4))
	var (
		n, oobn, flags int
		err            error
	)
	for {
		n, oobn, flags, _, err = unix.Recvmsg(sock, buf, oob, unix.MSG_CMSG_CLOEXEC)
		// A reset is told once, and before what is still to be read: the other side died with something unread.
		if err != unix.EINTR && err != unix.ECONNRESET {
			break
		}
	}
	if err == nil && n == 0 {
		return Message{}, io.EOF
	}
	if err != nil {
		return Message{}, err
	}
	var m Message
	m.FDs, err = parseRights(oob[:oobn])
	if err != nil {
		return Message{}, err
	}
	t, id, size, fds, err := parseHeader(buf[:n])
	if err == nil && (size != n-headerSize || fds != len(m.FDs) || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0) {
		err = fmt.Errorf("%w: cut off", ErrMalformed)
	}
	if err != nil {
		m.CloseFDs()
		return Message{}, err
	}
	m.Type, m.ID, m.Payload = t, id, append([]byte(nil), buf[headerSize:n]...)
	return m, nil
}
