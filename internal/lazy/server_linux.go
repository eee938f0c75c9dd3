package lazy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/lazyproto"
	"github.com/gantry-engine/gantry/internal/version"
)

// Open gives the way to a layer's registry.
type Open func(ctx context.Context, l lazyproto.Layer, a lazyproto.Access) (Source, error)

// patience bounds how long a layer may take until it is mounted: the pull waits for it.
const patience = 60 * time.Second

// Server does what gantryd asks for.
type Server struct {
	open   Open
	shared *shared

	mu      sync.Mutex
	layers  map[digest.Digest]*layer
	clients map[*lazyproto.Conn]bool
	busy    int
	changed chan struct{}
}

// NewServer makes a server.
func NewServer(open Open) *Server {
	s := &Server{open: open, layers: map[digest.Digest]*layer{}, clients: map[*lazyproto.Conn]bool{}, changed: make(chan struct{}, 1)}
	s.shared = newShared(s.tell)
	return s
}

// Accept serves clients until the listener is closed.
func (s *Server) Accept(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(100 * time.Millisecond) // out of descriptors: others must go first
			continue
		}
		conn := lazyproto.NewConn(c)
		s.change(func() { s.clients[conn] = true })
		go func() {
			s.serve(conn)
			s.change(func() { delete(s.clients, conn) })
			_ = conn.Close()
		}()
	}
}

func (s *Server) change(do func()) {
	s.mu.Lock()
	do()
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// WaitUntilIdle returns when nothing was served and nobody connected for a while.
func (s *Server) WaitUntilIdle(linger time.Duration) {
	timer := time.NewTimer(linger)
	for {
		select {
		case <-s.changed:
			timer.Reset(linger)
		case <-timer.C:
			s.mu.Lock()
			idle := len(s.clients) == 0 && len(s.layers) == 0 && s.busy == 0
			s.mu.Unlock()
			if idle {
				return
			}
		}
	}
}

// tell sends an event to all who are connected.
func (s *Server) tell(a lazyproto.Answer) {
	s.mu.Lock()
	var all []*lazyproto.Conn
	for c := range s.clients {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		_ = c.Send(a)
	}
}

// serve answers one client. Requests that take long do not hold up the others.
func (s *Server) serve(c *lazyproto.Conn) {
	for {
		var req lazyproto.Request
		files, err := c.Receive(&req)
		if err != nil {
			return
		}
		if req.Op == lazyproto.OpLeave {
			os.Exit(0) // the sessions' descriptors are with gantryd
		}
		s.change(func() { s.busy++ })
		go func() {
			defer s.change(func() { s.busy-- })
			a, out := s.answer(req, files)
			a.ID = req.ID
			_ = c.Send(a, out...)
		}()
	}
}

// answer does one request. The files are the request's to close.
func (s *Server) answer(req lazyproto.Request, files []*os.File) (a lazyproto.Answer, out []*os.File) {
	var err error
	switch req.Op {
	case lazyproto.OpList:
		return s.list(), nil
	case lazyproto.OpServe, lazyproto.OpAdopt:
		var l *layer
		if l, err = s.begin(req, files); err == nil {
			return l.described()
		}
	case lazyproto.OpCopy:
		if l := s.layer(req.Digest); l != nil {
			return l.described()
		}
		err = fmt.Errorf("the layer %s is not served", req.Digest)
	case lazyproto.OpRelease:
		if l := s.layer(req.Digest); l != nil {
			err = l.release()
		}
	default:
		err = fmt.Errorf("unknown request %q", req.Op)
	}
	if err != nil {
		a.Error, a.Unfit = err.Error(), errdefs.IsNotImplemented(err)
	}
	return a, nil
}

func (s *Server) layer(d digest.Digest) *layer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.layers[d]
}

func (s *Server) list() lazyproto.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := lazyproto.Answer{Version: version.Version + " " + version.Commit}
	for _, l := range s.layers {
		a.Held = append(a.Held, l.state())
	}
	return a
}

// begin serves a layer: afresh, or going on with a session whose descriptors came along.
func (s *Server) begin(req lazyproto.Request, files []*os.File) (l *layer, err error) {
	defer func() {
		if err != nil {
			lazyproto.CloseAll(files)
		}
	}()
	if req.Layer == nil || req.Place == nil || req.Access == nil || req.Op == lazyproto.OpAdopt && len(files) != 2 {
		return nil, errors.New("the request lacks what it is about")
	}
	if l := s.layer(req.Layer.Digest); l != nil {
		lazyproto.CloseAll(files)
		files = nil
		return l, nil
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, fmt.Errorf("its table of contents did not come within %v", patience))
	defer cancel()
	src, err := s.open(ctx, *req.Layer, *req.Access)
	if err != nil {
		return nil, err
	}
	var device, file, note *os.File
	if req.Op == lazyproto.OpAdopt {
		device, file = files[0], files[1]
	}
	switch {
	case req.Whole && file == nil:
		return nil, errors.New("a layer that is here has no file")
	case !req.Whole:
		if file, note, err = openCache(req.Place.Cache); err != nil {
			return nil, err
		}
		if len(files) == 2 {
			_ = files[1].Close()
			files = files[:1]
		}
	}
	if l, err = prepare(*req.Layer, *req.Place, s.shared, src, file, note); err != nil {
		return nil, err
	}
	table, err := l.load(ctx)
	if err == nil {
		err = l.begin(table, device, req.Note)
	}
	if err != nil {
		l.cancel()
		return nil, errors.Join(err, file.Close())
	}
	return l, s.started(l)
}

// started makes a layer that is mounted known, and serves it.
func (s *Server) started(l *layer) error {
	s.mu.Lock()
	if s.layers[l.info.Digest] != nil {
		s.mu.Unlock()
		l.cancel()
		return errors.Join(errors.New("the layer is served already"), unix.Unmount(l.place.Mount, unix.MNT_DETACH))
	}
	s.layers[l.info.Digest] = l
	s.mu.Unlock()
	go func() {
		l.run()
		s.change(func() { delete(s.layers, l.info.Digest) })
		_ = os.Remove(l.place.Mount)
		s.tell(lazyproto.Answer{Event: lazyproto.EventEnded, Digest: l.info.Digest})
	}()
	return nil
}
