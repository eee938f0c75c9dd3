package httpapi

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Media types of attach, exec and logs.
const (
	RawStream         = "application/vnd.docker.raw-stream"
	MultiplexedStream = "application/vnd.docker.multiplexed-stream"
)

// Mux frames several streams onto one connection: eight bytes of header (stream
// number, three zeros, length in big endian), then the data.
type Mux struct {
	mu    sync.Mutex
	w     io.Writer
	frame []byte // header and data go out in one write: one packet, one wake-up of the client
}

// frameKept bounds the buffer that stays with a connection, in bytes.
const frameKept = 64 << 10

// NewMux writes frames to w.
func NewMux(w io.Writer) *Mux { return &Mux{w: w} }

// Stream is a writer whose data goes out as frames of stream n (1 output, 2 errors).
func (m *Mux) Stream(n byte) io.Writer { return muxStream{m, n} }

type muxStream struct {
	m *Mux
	n byte
}

func (s muxStream) Write(p []byte) (int, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	m := s.m
	m.frame = append(AppendFrameHeader(m.frame[:0], s.n, len(p)), p...)
	n, err := m.w.Write(m.frame)
	if cap(m.frame) > frameKept {
		m.frame = nil
	}
	return int(max(n-8, 0)), err
}

// AppendFrameHeader appends what stands in front of size bytes of stream n.
func AppendFrameHeader(dst []byte, n byte, size int) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(n)<<56|uint64(uint32(size)))
}

// Conn is a connection taken over from HTTP.
type Conn struct {
	net.Conn
	r    *bufio.Reader
	left chan struct{}
	once sync.Once // of watching, or of knowing that the client left
}

// goneCheck is how often a client that has nothing more to say is asked for.
const goneCheck = 5 * time.Second

// Read yields what the client sent after its request. Only what net/http has read ahead
// comes through its reader: that one would take the client's end of input, met in a read,
// for the end of the request and cancel its context, while the output still goes on.
func (c *Conn) Read(p []byte) (int, error) {
	if c.r.Buffered() > 0 {
		return c.r.Read(p)
	}
	n, err := c.Conn.Read(p)
	if err != nil {
		c.once.Do(func() {
			if errors.Is(err, io.EOF) {
				go c.watch()
			} else {
				close(c.left)
			}
		})
	}
	return n, err
}

// Left is closed when the client has gone. Somebody has to read, see Drain.
func (c *Conn) Left() <-chan struct{} { return c.left }

// Drain reads and drops what the client sends, so that Left learns of its end.
func (c *Conn) Drain() {
	go func() { _, _ = io.Copy(io.Discard, c) }()
}

// watch tells a client that closed its side and still reads from one that is gone: both
// are the end of input. A UNIX socket says so when nothing at all is written to it; on
// TCP only a write that carries something finds out.
func (c *Conn) watch() {
	if _, ok := c.Conn.(*net.UnixConn); !ok {
		return
	}
	tick := time.NewTicker(goneCheck)
	defer tick.Stop()
	for range tick.C {
		if _, err := c.Conn.Write(nil); err != nil {
			close(c.left)
			return
		}
	}
}

// Finish tells the client that nothing more comes, and closes.
func (c *Conn) Finish() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = c.Conn.Close()
}

// Hijack takes the connection over and answers the request's head: 101 if the
// client asked for an upgrade, else 200, as attach and exec of all API versions
// expect. mux picks the media type.
func Hijack(w http.ResponseWriter, r *http.Request, mux bool) (*Conn, error) {
	h, ok := w.(http.Hijacker)
	if !ok {
		return nil, errors.New("this connection cannot be taken over for a stream (HTTP/2?)")
	}
	conn, rw, err := h.Hijack()
	if err != nil {
		return nil, fmt.Errorf("taking over the connection: %w", err)
	}
	media := RawStream
	if mux && !VersionLess(Version(r.Context()), "1.42") {
		media = MultiplexedStream
	}
	var head bytes.Buffer
	if r.Header.Get("Upgrade") != "" {
		head.WriteString("HTTP/1.1 101 UPGRADED\r\nContent-Type: " + media + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n")
	} else {
		head.WriteString("HTTP/1.1 200 OK\r\nContent-Type: " + RawStream + "\r\n")
	}
	_ = w.Header().Write(&head) // what every answer says of the engine
	head.WriteString("\r\n")
	if _, err := conn.Write(head.Bytes()); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &Conn{Conn: conn, r: rw.Reader, left: make(chan struct{})}, nil
}
