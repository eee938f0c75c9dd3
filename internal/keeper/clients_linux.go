package keeper

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
)

// clients are the connections of gantryd. Any goroutine may ask.
type clients struct {
	mu    sync.Mutex // after any proc.mu, before any client.mu
	conns map[*client]struct{}
}

func (s *clients) add(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
}

func (s *clients) remove(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// subscribe has c hear of every exit to come.
func (s *clients) subscribe(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subscribed = true
}

// broadcastExit tells all that have subscribed. p.mu is held.
func (s *clients) broadcastExit(p *proc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.exited(*p.exit)
	}
}

// client is one connection of gantryd: answers go out at once, what happens meanwhile by a goroutine of its own.
type client struct {
	conn *keeperproto.Conn
	sock *net.UnixConn

	mu         sync.Mutex
	cond       *sync.Cond
	watches    map[uint32]*watch
	grew       map[*watch]struct{} // to be announced
	exits      []keeperproto.Exited
	subscribed bool
	closed     bool
}

func newClient(uc *net.UnixConn) *client {
	c := &client{conn: keeperproto.NewConn(uc), sock: uc, watches: map[uint32]*watch{}, grew: map[*watch]struct{}{}}
	c.cond = sync.NewCond(&c.mu)
	return c
}

// close ends the connection, and gives the watches that nobody reads any more.
func (c *client) close() []*watch {
	_ = c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	ws := make([]*watch, 0, len(c.watches))
	for _, w := range c.watches {
		ws = append(ws, w)
	}
	c.watches = map[uint32]*watch{}
	c.cond.Broadcast()
	return ws
}

func (c *client) addWatch(w *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watches[w.id] = w
}

func (c *client) dropWatch(w *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watches[w.id] == w {
		delete(c.watches, w.id)
	}
	// What was to be announced still is: the reader has its own descriptors.
}

// watched gives the watch with a number, or nil; the last time, it is the client's no longer.
func (c *client) watched(id uint32, last bool) *watch {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watches[id]
	if last {
		delete(c.watches, id)
		delete(c.grew, w)
	}
	return w
}

// notify has a watch announced soon. It never waits.
func (c *client) notify(w *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.grew[w] = struct{}{}
		c.cond.Signal()
	}
}

// exited has an exit told soon, if the client has subscribed. It never waits.
func (c *client) exited(x keeperproto.Exited) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.subscribed {
		c.exits = append(c.exits, x)
		c.cond.Signal()
	}
}

// events writes what happened to the connection. Only this goroutine waits when gantryd is slow.
func (c *client) events() {
	for {
		c.mu.Lock()
		for len(c.grew) == 0 && len(c.exits) == 0 && !c.closed {
			c.cond.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return
		}
		exits := c.exits
		c.exits = nil
		acks := make([]keeperproto.Ack, 0, len(c.grew))
		for w := range c.grew {
			acks = append(acks, keeperproto.Ack{ID: w.id, Pos: w.told})
			delete(c.grew, w)
		}
		c.mu.Unlock()
		for _, a := range acks {
			if c.conn.Send(keeperproto.Message{Type: keeperproto.TypeGrew, Payload: a.Encode()}) != nil {
				return
			}
		}
		for _, x := range exits {
			if c.conn.Send(keeperproto.Message{Type: keeperproto.TypeExited, Payload: x.Encode()}) != nil {
				return
			}
			failpoint.Hit("keeper.exit-sent")
		}
	}
}

func (c *client) reply(id uint32, payload []byte, fds ...int) {
	_ = c.conn.Send(keeperproto.Message{Type: keeperproto.TypeOK, ID: id, Payload: payload, FDs: fds})
}

func (c *client) fail(id uint32, err error) {
	var e keeperproto.Error
	if !errors.As(err, &e) {
		e = keeperproto.Error{Text: err.Error()}
		if errors.Is(err, keeperproto.ErrMalformed) {
			e.Class = keeperproto.ClassInvalid
		}
	}
	_ = c.conn.Send(keeperproto.Message{Type: keeperproto.TypeError, ID: id, Payload: e.Encode()})
}

// hungUp tells whether the other side has closed the connection. What it said before may still be
// unread.
func (c *client) hungUp() bool {
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, perr := unix.Poll(p, 0)
		gone = perr == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLRDHUP|unix.POLLERR) != 0
	})
	return err != nil || gone
}

// checkPeer lets only the keeper's own user in.
func checkPeer(uc *net.UnixConn) error {
	raw, err := uc.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return cerr
	}
	if err == nil && cred.Uid != uint32(os.Geteuid()) {
		err = fmt.Errorf("a client of user %d was refused", cred.Uid)
	}
	return err
}
