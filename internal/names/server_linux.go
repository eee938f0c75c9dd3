package names

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/netproto"
)

// Server answers the questions of an engine's containers.
type Server struct {
	table   *table
	forward *forwarder
	epoll   int
	wake    int // an eventfd: the poller is to end
	ended   chan struct{}

	mu      sync.RWMutex
	sockets map[string]*sockets // by container; each has a sandbox in the table
	byKey   map[uint32]*sockets
	last    uint32 // key given out last
	streams int    // open TCP connections of all containers
}

// New makes a server and starts its poller.
func New() (*Server, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making an epoll descriptor: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Pad: onWake})
	}
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("making an event descriptor: %w", err)
	}
	s := &Server{
		table: newTable(), forward: newForwarder(), epoll: epoll, wake: wake, ended: make(chan struct{}),
		sockets: map[string]*sockets{}, byKey: map[uint32]*sockets{},
	}
	go s.poll()
	return s, nil
}

// Serve sets what a container may ask, and with files (its UDP socket and its TCP listener, which become the server's)
// where it asks. It tells with false that it has no sockets for the container, of which it knows nothing then.
func (s *Server) Serve(sb netproto.Sandbox, files []*os.File) (heard bool, err error) {
	if len(files) == 0 {
		s.mu.RLock()
		defer s.mu.RUnlock()
		if s.sockets[sb.Container] == nil {
			return false, nil
		}
		s.table.serve(sb)
		return true, nil
	}
	fresh, err := newSockets(sb.Container, files)
	if err != nil {
		return false, err
	}
	s.table.serve(sb)
	s.mu.Lock()
	old := s.sockets[sb.Container]
	s.last++
	fresh.key = s.last
	s.sockets[sb.Container], s.byKey[fresh.key] = fresh, fresh
	if old != nil {
		delete(s.byKey, old.key)
	}
	s.mu.Unlock()
	if old != nil {
		old.close()
	}
	if err := fresh.watch(s.epoll); err != nil {
		s.Gone(sb.Container)
		return false, fmt.Errorf("waiting for questions of container %s: %w", sb.Container, err)
	}
	return true, nil
}

// Join adds an endpoint, or changes the one with its ID.
func (s *Server) Join(ep netproto.Endpoint) { s.table.join(ep) }

// Leave takes an endpoint away.
func (s *Server) Leave(endpoint string) { s.table.leave(endpoint) }

// Gone takes a container away, with its endpoints and sockets.
func (s *Server) Gone(container string) {
	s.table.gone(container)
	s.hangUp(container)
}

// Keep forgets all containers and endpoints but these.
func (s *Server) Keep(containers, endpoints []string) {
	for _, id := range s.table.keep(containers, endpoints) {
		s.hangUp(id)
	}
}

// Empty tells whether nothing is known and nobody served.
func (s *Server) Empty() bool { return s.table.empty() }

// Close ends the server.
func (s *Server) Close() {
	_, _ = unix.Write(s.wake, []byte{0: 1, 7: 0})
	<-s.ended
	s.mu.Lock()
	all := s.sockets
	s.sockets, s.byKey = map[string]*sockets{}, map[uint32]*sockets{}
	s.mu.Unlock()
	for _, so := range all {
		so.close()
	}
	s.forward.close()
	_ = unix.Close(s.wake)
	_ = unix.Close(s.epoll)
}

func (s *Server) hangUp(container string) {
	s.mu.Lock()
	so := s.sockets[container]
	delete(s.sockets, container)
	if so != nil {
		delete(s.byKey, so.key)
	}
	s.mu.Unlock()
	if so != nil {
		so.close()
	}
}

// What an event is about, in the second half of its data; the first is the sockets' key.
const (
	onWake = iota
	onUDP
	onTCP
)

// poll serves whoever has something to say, a batch from each in turn, so that nobody waits for a flood to end.
func (s *Server) poll() {
	defer close(s.ended)
	runtime.LockOSThread() // it sleeps in the kernel: no other goroutine has to be carried over to another thread
	b := newBatch()
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(s.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return // the descriptor is gone
		}
		for _, e := range events[:max(n, 0)] {
			if e.Pad == onWake {
				return
			}
			s.mu.RLock()
			so := s.byKey[uint32(e.Fd)]
			s.mu.RUnlock()
			switch {
			case so == nil: // it was closed meanwhile
			case e.Pad == onUDP:
				s.datagrams(so, b)
			default:
				s.accept(so)
			}
		}
	}
}

// datagrams answers a batch of questions of a container.
func (s *Server) datagrams(so *sockets, b *batch) {
	so.mu.RLock()
	defer so.mu.RUnlock()
	if so.closed {
		return
	}
	q := &b.question
	for i := range b.receive(so.udp) {
		said, servers := s.local(so.container, q, q.parse(b.message(i)), b.room(i), q.datagram())
		if servers != nil && !s.forward.ask(so, servers, q, &datagram{so: so, to: b.from(i)}) {
			said = refuse(q, b.room(i), rcodeServer)
		}
		if said != nil {
			b.answer(i, said)
		}
	}
	b.send(so.udp)
}

// local answers a question into out if that can be done at once, or gives the servers to be asked, or nothing if nothing
// is to be said.
func (s *Server) local(container string, q *question, v verdict, out []byte, limit int) ([]byte, []netproto.Server) {
	switch v {
	case silent:
		return nil, nil
	case broken:
		return refuse(q, out, rcodeFormat), nil
	case alien:
		return refuse(q, out, rcodeNotImplemented), nil
	}
	if a := s.table.answer(container, q, out, limit); a != nil {
		return a, nil
	}
	servers, may := s.table.upstream(container)
	if !may {
		return refuse(q, out, rcodeName), nil
	}
	return nil, servers
}
