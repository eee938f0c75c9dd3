package api

import (
	"context"
	"net"
)

// Dialer opens a connection to the engine.
type Dialer func(ctx context.Context) (net.Conn, error)

// endpoint is where the engine is.
type endpoint struct {
	host    string // as the user wrote it
	program string // whose words to use when it cannot be reached
	dial    Dialer
}

// Host is the address as the user gave it.
func (e endpoint) Host() string { return e.host }

// Dial opens a bare connection to the engine.
func (e endpoint) Dial(ctx context.Context) (net.Conn, error) {
	nc, err := e.dial(ctx)
	if err != nil {
		return nil, e.unreachable(err)
	}
	return nc, nil
}

func (e endpoint) unreachable(err error) error {
	return &ConnError{Host: e.host, Program: e.program, Err: err}
}
