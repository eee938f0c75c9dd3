package gantrynet

import (
	"context"
	"fmt"
	"os"

	"github.com/gantry-engine/gantry/internal/netproto"
)

// Session is one user's connection to gantry-net, made when it is needed, over and over. It is used under its user's lock.
type Session struct {
	program *Program
	lost    chan struct{}
	link    *Link // nil if not connected

	// Told is set by the user when gantry-net knows all that it should, Tidy when it knows nothing else. Both are
	// cleared here when that comes into doubt.
	Told, Tidy bool
}

// NewSession makes a session, not connected.
func NewSession(p *Program) *Session { return &Session{program: p, lost: make(chan struct{}, 1)} }

// Lost gets a word when gantry-net has gone away, or is in an unknown state.
func (s *Session) Lost() <-chan struct{} { return s.lost }

// Connect finds gantry-net or, with start, starts one.
func (s *Session) Connect(ctx context.Context, start bool) error {
	if s.Connected() {
		return nil
	}
	s.HangUp()
	connect := func() (*Link, error) { return s.program.Find(s.lost) }
	if start {
		connect = func() (*Link, error) { return s.program.Start(ctx, s.lost) }
	}
	l, err := connect()
	if err != nil {
		return err
	}
	s.link = l
	return nil
}

// Connected tells whether there is a connection that has not ended, as far as is known.
func (s *Session) Connected() bool { return s.link != nil && !s.link.Broken() }

// Ask exchanges a request, with descriptors that stay the caller's, for its answer; the session is connected. An error
// that the answer tells is an error here.
func (s *Session) Ask(ctx context.Context, req netproto.Request, files ...*os.File) (netproto.Answer, error) {
	if s.link == nil {
		return netproto.Answer{}, ErrGone
	}
	a, err := s.link.Exchange(ctx, req, files...)
	if err != nil { // what it did, and the stream's position, are unknown
		s.HangUp()
		s.Doubt()
		Nudge(s.lost)
		return a, fmt.Errorf("asking gantry-net to %s: %w", req.Op, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("gantry-net: %s", a.Error)
	}
	return a, nil
}

// Doubt notes that gantry-net may know less, or more, than it should.
func (s *Session) Doubt() { s.Told, s.Tidy = false, false }

// HangUp ends the connection, if there is one.
func (s *Session) HangUp() {
	if s.link == nil {
		return
	}
	if s.link.Broken() {
		s.Doubt()
	}
	s.link.Close()
	s.link = nil
}
