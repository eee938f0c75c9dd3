package names

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sockets is where a container asks.
type sockets struct {
	container string
	key       uint32
	ctx       context.Context // ends when they are closed
	stop      context.CancelFunc
	queue     queue // the forwarder's

	mu       sync.RWMutex // read: the descriptors are in use; write: they are being closed
	closed   bool
	udp, tcp int
	epoll    int
	files    []*os.File // the owners of udp and tcp
	streams  map[*stream]struct{}
	streamMu sync.Mutex
}

// newSockets takes over a bound UDP socket and a TCP listener, in any order; an error closes them.
func newSockets(container string, files []*os.File) (_ *sockets, err error) {
	so := &sockets{container: container, udp: -1, tcp: -1, files: files, streams: map[*stream]struct{}{}}
	so.queue.init()
	so.ctx, so.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			so.close()
		}
	}()
	for _, f := range files {
		fd := int(f.Fd())
		kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		if err == nil {
			err = unix.SetNonblock(fd, true)
		}
		if err != nil {
			return nil, fmt.Errorf("a descriptor for container %s is no socket: %w", container, err)
		}
		switch kind {
		case unix.SOCK_DGRAM:
			so.udp = fd
		case unix.SOCK_STREAM:
			so.tcp = fd
		}
	}
	if so.udp < 0 || so.tcp < 0 {
		return nil, fmt.Errorf("a UDP and a TCP socket are needed for container %s", container)
	}
	return so, nil
}

// watch has the poller told of questions.
func (so *sockets) watch(epoll int) error {
	so.mu.Lock()
	defer so.mu.Unlock()
	so.epoll = epoll
	err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, so.udp, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(so.key), Pad: onUDP})
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, so.tcp, so.listening(unix.EPOLLIN))
	}
	return err
}

func (so *sockets) listening(events uint32) *unix.EpollEvent {
	return &unix.EpollEvent{Events: events, Fd: int32(so.key), Pad: onTCP}
}

// close ends all there is: listening, connections, questions that are asked upstream.
func (so *sockets) close() {
	so.stop()
	so.mu.Lock()
	so.closed = true
	for _, fd := range []int{so.udp, so.tcp} {
		if so.epoll > 0 { // gantryd may have copies of them, which would keep them there
			_ = unix.EpollCtl(so.epoll, unix.EPOLL_CTL_DEL, fd, nil)
		}
	}
	for _, f := range so.files {
		_ = f.Close()
	}
	so.mu.Unlock()
	so.streamMu.Lock()
	defer so.streamMu.Unlock()
	for st := range so.streams {
		_ = st.conn.Close()
	}
}

// datagram is a client that asked over UDP and waits.
type datagram struct {
	so *sockets
	to unix.SockaddrInet4
}

func (d *datagram) overTCP() bool { return false }

func (d *datagram) limit(q *question) int { return q.datagram() }

func (d *datagram) tell(said []byte) {
	d.so.mu.RLock()
	defer d.so.mu.RUnlock()
	if !d.so.closed {
		_ = unix.Sendto(d.so.udp, said, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &d.to) // lost, as datagrams may be
	}
}

// accept takes connections of a container. More than there may be are closed at once.
func (s *Server) accept(so *sockets) {
	so.mu.RLock()
	defer so.mu.RUnlock()
	if so.closed {
		return
	}
	for range batchSize {
		fd, _, err := unix.Accept4(so.tcp, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			s.startStream(so, os.NewFile(uintptr(fd), "stream"))
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOBUFS):
			s.rest(so)
			return
		case errors.Is(err, unix.EAGAIN):
			return
		}
	}
}

// rest looks away from a listener for a while, as it goes on having what cannot be taken.
func (s *Server) rest(so *sockets) {
	_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_MOD, so.tcp, so.listening(0))
	time.AfterFunc(100*time.Millisecond, func() {
		so.mu.RLock()
		defer so.mu.RUnlock()
		if !so.closed {
			_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_MOD, so.tcp, so.listening(unix.EPOLLIN))
		}
	})
}
