package names

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/netproto"
)

const (
	upstreamTCP = 128 // connections to servers at one time
	maxLies     = 16  // datagrams that are no answer, before a server is asked over TCP
)

// errLied says that too much came that is no answer: somebody guesses.
var errLied = errors.New("too many false answers")

// exchange asks one server, under a number and from a port that nobody can guess. It returns nil if there is no answer
// while ctx lasts. What a server cuts off over UDP is asked for over TCP, if the client can take more.
func (f *forwarder) exchange(ctx context.Context, so *sockets, server netproto.Server, q *question, overTCP bool) []byte {
	message := append([]byte(nil), q.raw...)
	binary.BigEndian.PutUint16(message, uint16(rand.Uint32()))
	if overTCP {
		if said, err := f.overTCP(ctx, so, server, message, q.end); err == nil {
			return said
		} // there are servers without TCP
	}
	said, err := f.overUDP(ctx, so, server, message, q.end)
	if err == nil && said[2]&(flagTruncated>>8) == 0 || err != nil && !errors.Is(err, errLied) {
		return said
	}
	if overTCP || err == nil && q.size <= plainSize {
		return said
	}
	binary.BigEndian.PutUint16(message, uint16(rand.Uint32()))
	if whole, err := f.overTCP(ctx, so, server, message, q.end); err == nil {
		return whole
	}
	return said
}

var datagrams = sync.Pool{New: func() any { return new([MaxDatagram + 1]byte) }}

// overUDP asks, several times while ctx lasts, and waits for the answer among what comes.
func (f *forwarder) overUDP(ctx context.Context, so *sockets, server netproto.Server, message []byte, end int) ([]byte, error) {
	conn, err := f.dial(ctx, so, server, unix.SOCK_DGRAM)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	buf := datagrams.Get().(*[MaxDatagram + 1]byte)
	defer datagrams.Put(buf)
	lies := 0
	for {
		if _, err := conn.Write(message); err != nil {
			return nil, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(f.pace.resend))
		for {
			n, err := conn.Read(buf[:])
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil && !errors.Is(err, io.EOF) { // an empty datagram looks like the end
				return nil, err
			}
			if answers(buf[:n], message, end) {
				if n > MaxDatagram {
					buf[2] |= flagTruncated >> 8
					n = MaxDatagram
				}
				return append([]byte(nil), buf[:n]...), nil
			}
			if lies++; lies > maxLies {
				return nil, errLied
			}
		}
	}
}

// overTCP asks over a connection of its own.
func (f *forwarder) overTCP(ctx context.Context, so *sockets, server netproto.Server, message []byte, end int) ([]byte, error) {
	select {
	case f.tcp <- struct{}{}:
		defer func() { <-f.tcp }()
	default:
		return nil, errors.New("too many connections to servers")
	}
	conn, err := f.dial(ctx, so, server, unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(message)), uint16(len(message)))
	if _, err := conn.Write(append(framed, message...)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(conn, framed[:2]); err != nil {
		return nil, err
	}
	said := make([]byte, binary.BigEndian.Uint16(framed))
	if _, err := io.ReadFull(conn, said); err != nil {
		return nil, err
	}
	if !answers(said, message, end) {
		return nil, errLied
	}
	return said, nil
}

// dial connects a socket to a server, so that the kernel takes nothing on it from anybody else. The kernel chooses its
// port at random.
func (f *forwarder) dial(ctx context.Context, so *sockets, server netproto.Server, kind int) (*os.File, error) {
	to, domain, err := sockaddr(server)
	if err != nil {
		return nil, err
	}
	fd, err := f.socket(so, server.Host, domain, kind)
	if err != nil {
		return nil, err
	}
	conn := os.NewFile(uintptr(fd), "upstream") // which waits in the runtime's poller, as the socket does not block
	if err := connect(ctx, conn, to); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (f *forwarder) socket(so *sockets, host bool, domain, kind int) (int, error) {
	if host {
		return socket(domain, kind)
	}
	so.mu.RLock()
	defer so.mu.RUnlock()
	if so.closed {
		return -1, net.ErrClosed
	}
	return f.opener.open(so.udp, domain, kind)
}

// connect waits until a connection stands. Asked again, the kernel tells how far it is.
func connect(ctx context.Context, conn *os.File, to unix.Sockaddr) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Write(func(fd uintptr) bool {
		result = unix.Connect(int(fd), to)
		if errors.Is(result, unix.EISCONN) {
			result = nil
		}
		return !errors.Is(result, unix.EINPROGRESS) && !errors.Is(result, unix.EALREADY)
	})
	return errors.Join(err, result)
}

// sockaddr gives a server's address as the kernel wants it. A zone is an interface of the host's.
func sockaddr(server netproto.Server) (unix.Sockaddr, int, error) {
	ip, port := server.Address.Addr().Unmap(), int(server.Address.Port())
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: ip.As4()}, unix.AF_INET, nil
	}
	zone, err := zoneOf(ip)
	return &unix.SockaddrInet6{Port: port, Addr: ip.As16(), ZoneId: zone}, unix.AF_INET6, err
}

func zoneOf(ip netip.Addr) (uint32, error) {
	if ip.Zone() == "" {
		return 0, nil
	}
	i, err := net.InterfaceByName(ip.Zone())
	if err != nil {
		return 0, err
	}
	return uint32(i.Index), nil
}
