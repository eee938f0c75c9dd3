package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/keeperproto"
	"github.com/gantry-engine/gantry/internal/spec"
)

// errLinkLost is a request whose answer can no longer come.
var errLinkLost = fmt.Errorf("the connection to the keeper was lost: %w", errdefs.ErrUnavailable)

// link is one socket of a connection, to one keeper process.
type link struct {
	conn *keeperproto.Conn
	of   *connection

	mu      sync.Mutex
	next    uint32
	pending map[uint32]chan keeperproto.Message
	dead    error
}

func newLink(c *keeperproto.Conn, of *connection) *link {
	return &link{conn: c, of: of, pending: map[uint32]chan keeperproto.Message{}}
}

func (l *link) close(err error) {
	l.mu.Lock()
	if l.dead == nil {
		l.dead = err
		for id, ch := range l.pending {
			close(ch)
			delete(l.pending, id)
		}
	}
	l.mu.Unlock()
	_ = l.conn.Close()
}

func (l *link) broken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead != nil
}

// receive distributes what comes.
func (l *link) receive() {
	for {
		m, err := l.conn.Receive()
		if err != nil {
			l.close(err)
			l.of.lost(l)
			return
		}
		switch m.Type {
		case keeperproto.TypeGrew:
			if a, err := keeperproto.DecodeAck(m.Payload); err == nil {
				l.of.watches.grew(a.ID)
			}
		case keeperproto.TypeExited:
			if x, err := keeperproto.DecodeExited(m.Payload); err == nil {
				l.of.exits.add(x)
			}
		case keeperproto.TypeOK, keeperproto.TypeError:
			l.mu.Lock()
			ch := l.pending[m.ID]
			delete(l.pending, m.ID)
			l.mu.Unlock()
			if ch != nil {
				ch <- m
				continue
			}
		}
		m.CloseFDs()
	}
}

// call sends a request and waits for its answer. The caller owns the answer's descriptors.
func (l *link) call(ctx context.Context, t keeperproto.Type, payload []byte, fds []int) (keeperproto.Message, error) {
	ch := make(chan keeperproto.Message, 1)
	l.mu.Lock()
	if l.dead != nil {
		l.mu.Unlock()
		return keeperproto.Message{}, errLinkLost
	}
	l.next++
	id := l.next
	l.pending[id] = ch
	l.mu.Unlock()
	if err := l.conn.Send(keeperproto.Message{Type: t, ID: id, Payload: payload, FDs: fds}); err != nil {
		l.close(err)
		return keeperproto.Message{}, errLinkLost
	}
	select {
	case m, ok := <-ch:
		if !ok {
			return keeperproto.Message{}, errLinkLost
		}
		if m.Type == keeperproto.TypeError {
			m.CloseFDs()
			return keeperproto.Message{}, decodeError(m.Payload)
		}
		return m, nil
	case <-ctx.Done():
		l.mu.Lock()
		delete(l.pending, id)
		l.mu.Unlock()
		select {
		case m, ok := <-ch:
			if ok {
				m.CloseFDs()
			}
		default:
		}
		return keeperproto.Message{}, context.Cause(ctx)
	}
}

// send is a message without an answer.
func (l *link) send(t keeperproto.Type, payload []byte) {
	if err := l.conn.Send(keeperproto.Message{Type: t, Payload: payload}); err != nil {
		l.close(err)
	}
}

// decodeError gives the keeper's error its class.
func decodeError(b []byte) error {
	e, err := keeperproto.DecodeError(b)
	if err != nil {
		return err
	}
	classes := map[keeperproto.Class]error{
		keeperproto.ClassNotFound: errdefs.ErrNotFound, keeperproto.ClassAlreadyExists: errdefs.ErrAlreadyExists,
		keeperproto.ClassInvalid: errdefs.ErrInvalidArgument, keeperproto.ClassUnavailable: errdefs.ErrUnavailable,
		keeperproto.ClassExhausted: errdefs.ErrResourceExhausted, keeperproto.ClassPrecondition: errdefs.ErrFailedPrecondition,
		keeperproto.ClassUnimplemented: errdefs.ErrNotImplemented,
	}
	if e.Class == keeperproto.ClassLaunch {
		return &spec.LaunchError{Stage: e.Stage, Path: e.Path, Errno: int(e.Errno), Text: e.Text}
	}
	if class, ok := classes[e.Class]; ok {
		return fmt.Errorf("%s: %w", e.Text, class)
	}
	return errors.New(e.Text)
}
