package publish

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gantry-engine/gantry/internal/netproto"
)

// errGone is a gantry-net that ended instead of answering.
var errGone = errors.New("gantry-net has ended")

// patience bounds how long an answer may take.
const patience = 10 * time.Second

// link is one connection to gantry-net. A reader waits on it all the time, so that
// the other side's end is noticed at once.
type link struct {
	conn    net.Conn
	answers chan []byte
	gone    chan struct{}
	closed  atomic.Bool // by us
}

func dial(socket string, lost chan<- struct{}) (*link, error) {
	conn, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, answers: make(chan []byte, 1), gone: make(chan struct{})}
	go l.read(lost)
	return l, nil
}

func (l *link) read(lost chan<- struct{}) {
	in := bufio.NewScanner(l.conn)
	in.Buffer(make([]byte, 0, 512), netproto.MaxLine)
	for in.Scan() {
		select {
		case l.answers <- append([]byte(nil), in.Bytes()...):
		default: // an answer that nobody asked for: the stream is out of step
			_ = l.conn.Close()
		}
	}
	close(l.gone)
	if !l.closed.Load() {
		nudge(lost)
	}
}

func (l *link) broken() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

func (l *link) close() {
	l.closed.Store(true)
	_ = l.conn.Close()
}

func (l *link) exchange(ctx context.Context, req netproto.Request) (a netproto.Answer, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("gantry-net does not answer"))
	defer cancel()
	line, err := json.Marshal(req)
	if err != nil {
		return a, err
	}
	deadline, _ := ctx.Deadline()
	_ = l.conn.SetWriteDeadline(deadline)
	if _, err := l.conn.Write(append(line, '\n')); err != nil {
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			return a, errGone
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
			return a, errGone
		}
	case <-ctx.Done():
		return a, context.Cause(ctx)
	}
}
