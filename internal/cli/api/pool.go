package api

import (
	"bufio"
	"context"
	"sync"
)

// maxIdle bounds how many connections wait for a request.
const maxIdle = 8

// pool keeps connections to an endpoint for the next request.
type pool struct {
	endpoint

	mu   sync.Mutex
	idle []*conn
}

// get gives the connection that came back last, or a new one.
func (p *pool) get(ctx context.Context) (*conn, error) {
	if cn := p.take(); cn != nil {
		cn.reused = true
		return cn, nil
	}
	nc, err := p.Dial(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return &conn{Conn: nc, pool: p, r: bufio.NewReaderSize(nc, bufferSize)}, nil
}

func (p *pool) take() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	cn := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return cn
}

// put takes back a connection on which an answer was read to its end.
func (p *pool) put(cn *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= maxIdle {
		cn.Close()
		return
	}
	p.idle = append(p.idle, cn)
}

// Close drops the idle connections.
func (p *pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cn := range p.idle {
		cn.Close()
	}
	p.idle = nil
}
