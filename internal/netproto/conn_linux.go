package netproto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ErrMalformed is wrapped by errors about bytes or descriptors that are no message. The stream is of no use afterwards.
var ErrMalformed = errors.New("malformed message")

// unclaimed bounds the descriptors that came ahead of the line that announces them.
const unclaimed = 16

// Conn carries messages. Send may be called by one goroutine while another one receives. The kernel hands over descriptors
// with, or before, the first byte that they were sent with; the n-th announced descriptor is the n-th that came.
type Conn struct {
	c    *net.UnixConn
	in   []byte // received and not consumed
	seen int    // bytes of in that hold no end of line
	oob  []byte
	fds  []*os.File // received and not announced yet
}

// NewConn wraps a connected stream socket.
func NewConn(c *net.UnixConn) *Conn { return &Conn{c: c} }

// Close ends the connection; a waiting Receive returns. It does not wait.
func (c *Conn) Close() error { return c.c.Close() }

// Send writes a message, with descriptors that stay the caller's. A Request says in FDs how many there are.
func (c *Conn) Send(m any, files ...*os.File) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if len(line) > MaxLine || len(files) > MaxFDs {
		return fmt.Errorf("a message of %d bytes with %d descriptors is too large", len(line), len(files))
	}
	if len(files) > 0 {
		n, err := c.sendFiles(line, files)
		if err != nil {
			return err
		}
		line = line[n:]
	}
	if len(line) == 0 {
		return nil
	}
	_, err = c.c.Write(line)
	return err
}

func (c *Conn) sendFiles(line []byte, files []*os.File) (int, error) {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	n, _, err := c.c.WriteMsgUnix(line, unix.UnixRights(fds...), nil)
	return n, err
}

// Receive reads a line, which is valid until the next call; io.EOF when the other side has closed.
func (c *Conn) Receive() ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.in[c.seen:], '\n'); i >= 0 {
			end := c.seen + i
			line := c.in[:end:end]
			c.in, c.seen = c.in[end+1:], 0
			return line, nil
		}
		c.seen = len(c.in)
		if len(c.in) >= MaxLine {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", ErrMalformed, MaxLine)
		}
		if err := c.fill(); err != nil {
			if errors.Is(err, io.EOF) && len(c.in) > 0 {
				err = io.ErrUnexpectedEOF
			}
			c.drop()
			return nil, err
		}
	}
}

// Files gives the n descriptors that the line just received has announced. They are the caller's then.
func (c *Conn) Files(n int) ([]*os.File, error) {
	if n < 0 || n > MaxFDs || n > len(c.fds) {
		return nil, fmt.Errorf("%w: %d descriptors announced, %d came", ErrMalformed, n, len(c.fds))
	}
	files := c.fds[:n:n]
	c.fds = c.fds[n:]
	return files, nil
}

// drop closes what was received and never announced.
func (c *Conn) drop() {
	for _, f := range c.fds {
		_ = f.Close()
	}
	c.fds = nil
}

func (c *Conn) fill() error {
	if cap(c.in)-len(c.in) < 512 {
		c.in = append(make([]byte, 0, max(1024, 2*len(c.in))), c.in...)
	}
	if c.oob == nil {
		c.oob = make([]byte, unix.CmsgSpace(unclaimed*4))
	}
	n, oobn, flags, _, err := c.c.ReadMsgUnix(c.in[len(c.in):cap(c.in)], c.oob)
	if oobn > 0 {
		if err := c.take(c.oob[:oobn]); err != nil {
			return err
		}
	}
	switch {
	case err != nil:
		return err
	case flags&unix.MSG_CTRUNC != 0:
		return fmt.Errorf("%w: descriptors were cut off", ErrMalformed)
	case n == 0:
		return io.EOF
	}
	c.in = c.in[:len(c.in)+n]
	return nil
}

// take keeps the descriptors of a control message.
func (c *Conn) take(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("%w: control message: %v", ErrMalformed, err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // something else than descriptors
		}
		for _, fd := range fds {
			c.fds = append(c.fds, os.NewFile(uintptr(fd), "received"))
		}
	}
	if len(c.fds) > unclaimed {
		return fmt.Errorf("%w: %d descriptors that no line announced", ErrMalformed, len(c.fds))
	}
	return nil
}
