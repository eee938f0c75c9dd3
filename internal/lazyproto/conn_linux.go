package lazyproto

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxPacket bounds a message, in bytes; maxFiles the descriptors with it.
const (
	maxPacket = 180 << 10
	maxFiles  = 2
)

// Conn is a connection of packets.
type Conn struct {
	c    *net.UnixConn
	send sync.Mutex
	buf  []byte
	oob  []byte
}

// NewConn takes over a connection of the network "unixpacket".
func NewConn(c *net.UnixConn) *Conn {
	return &Conn{c: c, buf: make([]byte, maxPacket), oob: make([]byte, unix.CmsgSpace(4*maxFiles))}
}

// Close closes the connection.
func (c *Conn) Close() error { return c.c.Close() }

// Send sends a message with descriptors, which stay the caller's.
func (c *Conn) Send(v any, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxPacket {
		return fmt.Errorf("a message of %d bytes is longer than %d", len(b), maxPacket)
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	c.send.Lock()
	defer c.send.Unlock()
	_, _, err = c.c.WriteMsgUnix(b, oob, nil)
	return err
}

// Receive waits for a message. Only one goroutine may. The descriptors are the caller's to close; io.EOF is the end.
func (c *Conn) Receive(v any) (files []*os.File, err error) {
	n, oobn, flags, _, err := c.c.ReadMsgUnix(c.buf, c.oob)
	if oobn > 0 {
		files = received(c.oob[:oobn])
	}
	defer func() {
		if err != nil {
			CloseAll(files)
			files = nil
		}
	}()
	switch {
	case err != nil:
		return files, err
	case n == 0 && oobn == 0:
		return files, io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return files, fmt.Errorf("a message is longer than %d bytes or has more than %d descriptors", maxPacket, maxFiles)
	}
	return files, json.Unmarshal(c.buf[:n], v)
}

func received(oob []byte) (files []*os.File) {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range list {
		fds, err := unix.ParseUnixRights(&list[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files
}

// CloseAll closes files.
func CloseAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
