package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/version"
)

// connectPatience bounds how long a request waits for a keeper that is being replaced.
const connectPatience = 10 * time.Second

// connection leads to an engine's keeper: a link to one keeper process after the other,
// of which it starts the first, and the next where nobody else does.
type connection struct {
	cfg     Config
	exits   *exitBoard
	watches watches

	mu        sync.Mutex
	keeperPID int32
	link      *link         // nil while there is none
	changed   chan struct{} // closed and replaced when link changes
	closed    bool
}

// watches are what a connection puts into place in every new keeper.
type watches interface {
	resume(ctx context.Context, l *link)
	grew(id uint32) // the keeper says that there is more output for a watch
}

func newConnection(cfg Config, exits *exitBoard) *connection {
	return &connection{cfg: cfg, exits: exits, changed: make(chan struct{})}
}

func (c *connection) socket() string {
	return filepath.Join(c.cfg.ExecRoot, keeperproto.Dir, keeperproto.SocketName)
}

// connect dials until a keeper answers, starting the anchor when nobody does.
func (c *connection) connect() error {
	deadline := time.Now().Add(connectPatience)
	var last error
	var tried time.Time
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		l, err := c.dial()
		if err == nil {
			c.mu.Lock()
			c.link = l
			close(c.changed)
			c.changed = make(chan struct{})
			c.mu.Unlock()
			c.resume(l)
			if l.broken() { // before it was the connection's own, and so nobody noticed
				c.lost(l)
			}
			return nil
		}
		last = err
		if c.isClosed() {
			return net.ErrClosed
		}
		// Again after a while: the first one may have met the lock of an anchor that was just dying.
		if time.Since(tried) > 200*time.Millisecond && (errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)) && !keeperLives(c.cfg.ExecRoot) {
			if err := startAnchor(c.cfg); err != nil {
				return err
			}
			tried = time.Now()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the keeper at %s does not answer (see %s beside it): %w: %w", c.socket(), keeperproto.LogName, errdefs.ErrUnavailable, last)
		}
		time.Sleep(pause)
	}
}

func (c *connection) dial() (*link, error) {
	socket, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: c.socket(), Net: "unix"})
	if err != nil {
		return nil, err
	}
	l := newLink(keeperproto.NewConn(socket), c)
	go l.receive()
	ctx, cancel := context.WithTimeout(context.Background(), connectPatience)
	defer cancel()
	m, err := l.call(ctx, keeperproto.TypeHello, keeperproto.Hello{Version: keeperproto.Version, Build: version.Version}.Encode(), nil)
	if err != nil {
		l.close(err)
		return nil, err
	}
	m.CloseFDs()
	r, err := keeperproto.DecodeHelloReply(m.Payload)
	if err != nil {
		l.close(err)
		return nil, err
	}
	c.mu.Lock()
	c.keeperPID = r.PID
	c.mu.Unlock()
	return l, nil
}

// lost is called when a link has broken.
func (c *connection) lost(l *link) {
	c.mu.Lock()
	if c.closed || c.link != l {
		c.mu.Unlock()
		return
	}
	c.link = nil
	c.mu.Unlock()
	c.cfg.Logger.Info("the keeper is being replaced, or has died; reconnecting")
	go func() {
		for {
			err := c.connect()
			if err == nil {
				return
			}
			c.cfg.Logger.Error("keeper", "error", err)
			if c.isClosed() {
				return
			}
		}
	}()
}

// resume puts watches and the subscription into place on a new link.
func (c *connection) resume(l *link) {
	ctx, cancel := context.WithTimeout(context.Background(), connectPatience)
	defer cancel()
	c.watches.resume(ctx, l)
	for _, t := range []keeperproto.Type{keeperproto.TypeResumed, keeperproto.TypeSubscribe} {
		if m, err := l.call(ctx, t, nil, nil); err == nil {
			m.CloseFDs()
		}
	}
}

// current waits for a link.
func (c *connection) current(ctx context.Context) (*link, error) {
	timeout := time.NewTimer(connectPatience)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		l, ch, closed := c.link, c.changed, c.closed
		c.mu.Unlock()
		if closed {
			return nil, fmt.Errorf("keeper: the connection was closed: %w", errdefs.ErrUnavailable)
		}
		if l != nil {
			return l, nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timeout.C:
			return nil, fmt.Errorf("the keeper does not answer: %w", errdefs.ErrUnavailable)
		}
	}
}

// call sends a request that may be repeated, over as many keepers as it takes.
func (c *connection) call(ctx context.Context, t keeperproto.Type, payload []byte) (keeperproto.Message, error) {
	for {
		l, err := c.current(ctx)
		if err != nil {
			return keeperproto.Message{}, err
		}
		m, err := l.call(ctx, t, payload, nil)
		if !errors.Is(err, errLinkLost) {
			return m, err
		}
	}
}

// tell sends what has no answer, when there is a link.
func (c *connection) tell(t keeperproto.Type, about keeperproto.Ack) bool {
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	if l == nil {
		return false
	}
	l.send(t, about.Encode())
	return true
}

// renew has a keeper that was started from another executable than this engine's, the one before an upgrade of
// the engine, execute the present one in its place.
func (c *connection) renew() error {
	c.mu.Lock()
	pid := c.keeperPID
	c.mu.Unlock()
	now, err := os.Stat(c.cfg.KeeperPath)
	if err != nil {
		return nil // nothing to replace it by
	}
	if runs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || os.SameFile(runs, now) {
		return nil
	}
	c.cfg.Logger.Info("the keeper runs another executable than this engine's; it is replaced, containers run on", "pid", pid)
	ctx, cancel := context.WithTimeout(context.Background(), connectPatience)
	defer cancel()
	return c.Upgrade(ctx, c.cfg.KeeperPath)
}

// Upgrade makes the keeper execute the binary at path in its place.
func (c *connection) Upgrade(ctx context.Context, path string) error {
	m, err := c.call(ctx, keeperproto.TypeUpgrade, keeperproto.KeyRequest{Name: path}.Encode())
	m.CloseFDs()
	return err
}

// Stop ends keeper and anchor. It is refused while a process lives.
func (c *connection) Stop(ctx context.Context) error {
	l, err := c.current(ctx)
	if err != nil {
		return err
	}
	// Before the request: the connection's end must not look like a keeper that died.
	c.setClosed(true)
	m, err := l.call(ctx, keeperproto.TypeStop, nil, nil)
	m.CloseFDs()
	if err != nil {
		c.setClosed(false)
		return err
	}
	return c.Close()
}

// Close leaves the keeper alone; containers run on.
func (c *connection) Close() error {
	c.mu.Lock()
	c.closed = true
	l := c.link
	c.mu.Unlock()
	if l != nil {
		l.close(net.ErrClosed)
	}
	return nil
}

func (c *connection) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *connection) setClosed(closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = closed
}
