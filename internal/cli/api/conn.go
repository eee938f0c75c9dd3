package api

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"
)

// bufferSize is what is read or written at once, in bytes.
const bufferSize = 16 << 10

// errStale says that a connection was closed while it was idle: the request may be sent again on another one.
var errStale = errors.New("connection closed by the engine")

// conn is a connection that carries one request after the other.
type conn struct {
	net.Conn
	pool   *pool // where it goes once an answer is read
	r      *bufio.Reader
	reused bool
}

// roundTrip sends a request and reads the head of the answer. streaming says that its body comes bit by bit.
func (cn *conn) roundTrip(hr *http.Request, streaming bool) (*http.Response, error) {
	written := make(chan error, 1)
	if streaming {
		// The engine may answer (and refuse) before it has read everything.
		go func() { written <- cn.write(hr) }()
	} else if err := cn.write(hr); err != nil {
		return nil, cn.broken(err)
	}
	res, err := http.ReadResponse(cn.r, hr)
	if err == nil {
		return res, nil
	}
	if streaming {
		select {
		case werr := <-written:
			if werr != nil && !errors.Is(werr, syscall.EPIPE) {
				return nil, werr
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil, cn.broken(err)
}

func (cn *conn) write(hr *http.Request) error {
	w := bufio.NewWriterSize(cn, bufferSize)
	if err := hr.Write(w); err != nil {
		return err
	}
	return w.Flush()
}

// broken says what a failed read or write means: of a new connection, that the engine cannot be reached.
func (cn *conn) broken(err error) error {
	if cn.reused {
		return fmt.Errorf("%w: %v", errStale, err)
	}
	return cn.pool.unreachable(err)
}
