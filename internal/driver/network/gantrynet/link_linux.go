package gantrynet

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gantry-engine/gantry/internal/netproto"
)

// ErrGone is a gantry-net that ended instead of answering.
var ErrGone = errors.New("gantry-net has ended")

// patience bounds how long an answer may take.
const patience = 10 * time.Second

// Link is one connection to gantry-net. A reader waits on it all the time, so that
// the other side's end is noticed at once. One request is on its way at a time.
type Link struct {
	conn    *netproto.Conn
	socket  net.Conn
	answers chan []byte
	gone    chan struct{}
	closed  atomic.Bool // by us
}

func dial(socket string, lost chan<- struct{}) (*Link, error) {
	conn, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		return nil, err
	}
	l := &Link{conn: netproto.NewConn(conn.(*net.UnixConn)), socket: conn, answers: make(chan []byte, 1), gone: make(chan struct{})}
	go l.read(lost)
	return l, nil
}

func (l *Link) read(lost chan<- struct{}) {
	for {
		line, err := l.conn.Receive()
		if err != nil {
			break
		}
		select {
		case l.answers <- append([]byte(nil), line...):
		default: // an answer that nobody asked for: the stream is out of step
			_ = l.conn.Close()
		}
	}
	close(l.gone)
	if !l.closed.Load() {
		Nudge(lost)
	}
}

// Broken tells that the connection has ended.
func (l *Link) Broken() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// Close ends the connection without a word to lost.
func (l *Link) Close() {
	l.closed.Store(true)
	_ = l.conn.Close()
}

// Exchange sends a request, with descriptors that stay the caller's, and waits for the answer. After an error what
// gantry-net did is unknown, and so is where in the stream it is: the link is to be closed. ErrGone says that it has ended.
func (l *Link) Exchange(ctx context.Context, req netproto.Request, files ...*os.File) (a netproto.Answer, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("gantry-net does not answer"))
	defer cancel()
	deadline, _ := ctx.Deadline()
	_ = l.socket.SetWriteDeadline(deadline)
	req.FDs = len(files)
	if err := l.conn.Send(req, files...); err != nil {
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			return a, ErrGone
		}
		return a, err
	}
	select {
	case answer := <-l.answers:
		return a, json.Unmarshal(answer, &a)
	case <-l.gone:
		select {
		case answer := <-l.answers: // its last words
			return a, json.Unmarshal(answer, &a)
		default:
			return a, ErrGone
		}
	case <-ctx.Done():
		return a, context.Cause(ctx)
	}
}

// Nudge puts a word into a channel that has room for one.
func Nudge(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
