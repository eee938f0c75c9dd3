// Command gantry-net is a small process that outlives gantryd: it holds the sockets
// that reserve published ports and carries what the kernel cannot forward (IPv6 to
// containers that have only IPv4). gantryd starts it with the first published port
// and feeds it over a UNIX socket (internal/netproto); it ends when it holds nothing
// and nobody is connected.
//
//	gantry-net SOCKET   descriptor 3 is the listening UNIX socket at SOCKET
package main

import (
	"bufio"
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
	if err != nil {
		fmt.Fprintln(os.Stderr, "gantry-net: descriptor 3 is not a listening socket:", err)
		os.Exit(1)
	}
	s := &server{held: newHolder(), changed: make(chan struct{}, 1)}
	go s.accept(l)
	s.waitUntilIdle(linger)
	_ = os.Remove(os.Args[1])
}

type server struct {
	held    *holder
	mu      sync.Mutex
	clients int
	changed chan struct{}
}

func (s *server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
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
			defer c.Close()
			s.serve(c)
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
	return s.clients == 0 && s.held.empty()
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

func (s *server) serve(c net.Conn) {
	in := bufio.NewScanner(c)
	in.Buffer(make([]byte, 4096), netproto.MaxLine)
	for in.Scan() {
		var req netproto.Request
		var a netproto.Answer
		if err := json.Unmarshal(in.Bytes(), &req); err != nil {
			a.Error = "a request that is not JSON: " + err.Error()
		} else {
			a = s.answer(req)
		}
		failpoint.Hit("net.answer")
		out, err := json.Marshal(a)
		if err != nil {
			return
		}
		if _, err := c.Write(append(out, '\n')); err != nil {
			return
		}
		failpoint.Hit("net.answered")
	}
}

func (s *server) answer(req netproto.Request) netproto.Answer {
	switch req.Op {
	case "reserve":
		return s.held.reserve(req.Owner, req.Wants)
	case "release":
		s.held.release(req.Owner)
	case "keep":
		s.held.keep(req.Owners)
	default:
		return netproto.Answer{Error: fmt.Sprintf("unknown request %q", req.Op)}
	}
	return netproto.Answer{}
}

// raiseLimit asks for as many descriptors as allowed: one or two per published port.
func raiseLimit() {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err == nil {
		r.Cur = r.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r)
	}
}
