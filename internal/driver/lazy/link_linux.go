package lazy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/kit/sibling"
	"github.com/gantry-engine/gantry/internal/lazyproto"
)

// errGone is a gantry-lazy that ended instead of answering.
var errGone = errors.New("gantry-lazy has ended")

// link is one connection to gantry-lazy.
type link struct {
	conn  *lazyproto.Conn
	event func(lazyproto.Answer)
	gone  chan struct{}

	mu     sync.Mutex
	last   uint64
	asked  map[uint64]chan reply
	closed bool // by us
}

type reply struct {
	answer lazyproto.Answer
	files  []*os.File
}

func dial(socket string, event func(lazyproto.Answer)) (*link, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	l := &link{conn: lazyproto.NewConn(c), event: event, gone: make(chan struct{}), asked: map[uint64]chan reply{}}
	go l.read()
	return l, nil
}

func (l *link) read() {
	defer close(l.gone)
	for {
		var a lazyproto.Answer
		files, err := l.conn.Receive(&a)
		if err != nil {
			return
		}
		if a.Event != "" {
			lazyproto.CloseAll(files)
			l.event(a)
			continue
		}
		l.mu.Lock()
		to := l.asked[a.ID]
		delete(l.asked, a.ID)
		l.mu.Unlock()
		if to == nil { // who asked has given up
			lazyproto.CloseAll(files)
			continue
		}
		to <- reply{a, files}
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
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	_ = l.conn.Close()
}

func (l *link) wasClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// ask sends a request and waits for its answer, whose files are the caller's.
func (l *link) ask(ctx context.Context, req lazyproto.Request, files ...*os.File) (lazyproto.Answer, []*os.File, error) {
	to := make(chan reply, 1)
	l.mu.Lock()
	l.last++
	req.ID = l.last
	l.asked[req.ID] = to
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.asked, req.ID)
		l.mu.Unlock()
	}()
	if err := l.conn.Send(req, files...); err != nil {
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ENOTCONN) {
			err = errGone
		}
		return lazyproto.Answer{}, nil, err
	}
	var r reply
	select {
	case r = <-to:
	case <-l.gone:
		select {
		case r = <-to: // its last words
		default:
			return lazyproto.Answer{}, nil, errGone
		}
	case <-ctx.Done():
		return lazyproto.Answer{}, nil, context.Cause(ctx)
	}
	if r.answer.Error == "" {
		return r.answer, r.files, nil
	}
	lazyproto.CloseAll(r.files)
	if r.answer.Unfit {
		return r.answer, nil, fmt.Errorf("%s: %w", r.answer.Error, errdefs.ErrNotImplemented)
	}
	return r.answer, nil, fmt.Errorf("gantry-lazy: %s", r.answer.Error)
}

// program is gantry-lazy. It speaks to registries as this daemon does.
func program(exe, socket string) sibling.Program {
	p := sibling.Program{Exe: exe, Network: "unixpacket", Socket: socket, Env: []string{"GOGC=50"}, Stderr: os.Stderr} // the last words of a crash belong into the daemon's log
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			p.Env = append(p.Env, name+"="+v)
		}
	}
	return p
}

// patience bounds an answer: gantry-lazy itself gives a registry a minute.
const patience = 75 * time.Second
