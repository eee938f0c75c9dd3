package api

import (
	"context"
	"io"
	"net/http"
	"sync"
)

// Response is an answer with a status below 400. The body must be closed.
type Response struct {
	Status int
	Header http.Header
	Body   io.ReadCloser
	conn   *conn
}

// body gives its connection back once it is read to the end.
type body struct {
	rc       io.ReadCloser
	cn       *conn
	stop     func() bool
	ctx      context.Context
	reusable bool
	done     sync.Once
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.rc.Read(p)
	if err == io.EOF {
		b.finish(b.reusable)
	} else if err != nil && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *body) Close() error {
	b.finish(false)
	return nil
}

func (b *body) finish(reuse bool) {
	b.done.Do(func() {
		if b.stop() && reuse {
			b.cn.pool.put(b.cn)
			return
		}
		b.cn.Close()
	})
}
