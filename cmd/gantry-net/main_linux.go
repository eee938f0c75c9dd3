// Command gantry-net is a small process that outlives gantryd: it holds the sockets
// that reserve published ports, carries what the kernel cannot forward (IPv6 to
// containers that have only IPv4), and answers containers' questions about names
// (internal/names). gantryd starts it when the first port is published or the first
// container is on a network with names, and feeds it over a UNIX socket
// (internal/netproto); it ends when it holds nothing and nobody is connected.
//
//	gantry-net SOCKET   descriptor 3 is the listening UNIX socket at SOCKET
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/names"
	"github.com/gantry-engine/gantry/internal/netproto"
)

// linger is how long it waits for gantryd when it holds nothing.
const linger = 3 * time.Second

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "gantry-net is started by gantryd with its socket: gantry-net SOCKET")
		os.Exit(125)
	}
	debug.SetMemoryLimit(32 << 20)
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	raiseLimit()
	f := os.NewFile(3, os.Args[1])
	l, err := net.FileListener(f)
	_ = f.Close()
	if _, ok := l.(*net.UnixListener); err == nil && !ok {
		err = errors.New("it is of another family")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gantry-net: descriptor 3 is not a listening socket:", err)
		os.Exit(1)
	}
	resolver, err := names.New()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gantry-net: the DNS server cannot be started:", err)
		os.Exit(1)
	}
	s := &server{held: newHolder(), names: resolver, changed: make(chan struct{}, 1)}
	go s.accept(l.(*net.UnixListener))
	s.waitUntilIdle(linger)
	_ = os.Remove(os.Args[1])
}

type server struct {
	held    *holder
	names   *names.Server
	mu      sync.Mutex
	clients int
	changed chan struct{}
}

func (s *server) accept(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(100 * time.Millisecond) // out of descriptors: others must go first
			continue
		}
		s.count(1)
		go func() {
			defer s.count(-1)
			conn := netproto.NewConn(c)
			defer conn.Close()
			s.serve(conn)
		}()
	}
}

func (s *server) count(n int) {
	s.mu.Lock()
	s.clients += n
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *server) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients == 0 && s.held.empty() && s.names.Empty()
}

// waitUntilIdle returns when nothing was held and nobody connected for a while.
func (s *server) waitUntilIdle(patience time.Duration) {
	timer := time.NewTimer(patience)
	for {
		select {
		case <-s.changed:
			timer.Reset(patience)
		case <-timer.C:
			if s.idle() {
				return
			}
		}
	}
}

func (s *server) serve(c *netproto.Conn) {
	for {
		line, err := c.Receive()
		if err != nil {
			return
		}
		var req netproto.Request
		var a netproto.Answer
		if err := json.Unmarshal(line, &req); err != nil {
			a.Error = "a request that is not JSON: " + err.Error()
		} else {
			files, err := c.Files(req.FDs)
			if err != nil {
				return // nobody knows which descriptors belong to what
			}
			a = s.answer(req, files)
		}
		failpoint.Hit("net.answer")
		if err := c.Send(a); err != nil {
			return
		}
		failpoint.Hit("net.answered")
	}
}

// answer does what is asked. It takes over the files.
func (s *server) answer(req netproto.Request, files []*os.File) netproto.Answer {
	if req.Op == netproto.OpServe && req.Sandbox != nil {
		return s.resolve(req, files)
	}
	for _, f := range files {
		_ = f.Close()
	}
	switch {
	case req.Op == netproto.OpReserve:
		return s.held.reserve(req.Owner, req.Wants)
	case req.Op == netproto.OpRelease:
		s.held.release(req.Owner)
	case req.Op == netproto.OpKeep:
		s.held.keep(req.Owners)
	case req.Op == netproto.OpJoin && req.Endpoint != nil:
		s.names.Join(*req.Endpoint)
	case req.Op == netproto.OpLeave:
		s.names.Leave(req.Owner)
	case req.Op == netproto.OpGone:
		s.names.Gone(req.Owner)
	case req.Op == netproto.OpKeepNames:
		s.names.Keep(req.Owners, req.Endpoints)
	default:
		return netproto.Answer{Error: fmt.Sprintf("unknown request %q", req.Op)}
	}
	return netproto.Answer{}
}

// resolve has a container's questions about names answered.
func (s *server) resolve(req netproto.Request, files []*os.File) netproto.Answer {
	heard, err := s.names.Serve(*req.Sandbox, files)
	if err != nil {
		return netproto.Answer{Error: err.Error()}
	}
	if heard {
		for _, ep := range req.Joins {
			s.names.Join(ep)
		}
	}
	return netproto.Answer{Deaf: !heard}
}

// raiseLimit asks for as many descriptors as allowed: one or two per published port, two per container with names.
func raiseLimit() {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err == nil {
		r.Cur = r.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r)
	}
}
