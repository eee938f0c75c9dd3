package containers

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/gantry-engine/gantry/internal/service/containers/detach"
	"github.com/gantry-engine/gantry/internal/spec"
)

// errInputOver ends a session whose client has nothing more to type, at a process whose
// input stays open for the next client: such a client has left.
var errInputOver = errors.New("the client's input has ended")

// errLeft ends a session whose client has gone.
var errLeft = errors.New("the client has left")

// session is one client at one process: input one way, output the other.
type session struct {
	processes   Processes
	key         spec.ProcessKey
	streams     Streams
	out         OutputReader
	run         *run
	removed     <-chan struct{} // of the container; nil: it is there as long as the session
	stdin, once bool
	keys        []byte
	wantOut     bool
	wantErr     bool
	over        bool // the process will write nothing more
}

// copy copies both ways until one of the ends in Attach's description.
func (s *session) copy(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if s.streams.Gone != nil {
		go func() {
			select {
			case <-s.streams.Gone:
				cancel(errLeft)
			case <-ctx.Done():
			}
		}()
	}
	go func() { // a run that will never be has no output to wait for
		if s.stillborn(ctx) {
			cancel(errLeft)
		}
	}()
	var inputs sync.WaitGroup
	if s.stdin && s.streams.Stdin != nil {
		inputs.Add(1)
		go func() {
			defer inputs.Done()
			if err := s.input(ctx); errors.Is(err, detach.ErrDetached) || errors.Is(err, errInputOver) {
				cancel(err)
			}
		}()
	}
	var err error
	if s.out != nil {
		err = s.output(ctx)
	} else {
		select {
		case <-s.run.ended:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if errors.Is(err, errLeft) || errors.Is(err, errInputOver) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// stillborn waits and tells whether the process failed to start, or its container went
// before it was started.
func (s *session) stillborn(ctx context.Context) bool {
	select {
	case <-s.run.ended:
		return s.run.failed
	case <-s.removed:
		select {
		case <-s.run.started:
			return false
		default:
			return true
		}
	case <-ctx.Done():
		return false
	}
}

func (s *session) output(ctx context.Context) error {
	for {
		c, err := s.out.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			s.over = true
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		}
		if c.Stream == spec.Stderr && !s.wantErr || c.Stream == spec.Stdout && !s.wantOut {
			continue
		}
		w := s.streams.writer(c.Stream)
		if w == nil {
			continue
		}
		if _, err := w.Write(c.Data); err != nil {
			return errLeft
		}
	}
}

// input copies the client's bytes to the process. The client's end of file closes
// the process's input if the container wants that (--interactive without terminal),
// and is errInputOver otherwise.
func (s *session) input(ctx context.Context) error {
	src := s.streams.Stdin
	if len(s.keys) > 0 {
		src = detach.NewReader(src, s.keys)
	}
	select {
	case <-s.run.started:
	case <-s.run.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	kind := spec.HandleStdin
	if s.keys != nil {
		kind = spec.HandleTerminal
	}
	dst, err := s.processes.Handle(ctx, s.key, kind)
	if err != nil {
		return err
	}
	defer dst.Close()
	_, err = io.Copy(dst, src)
	if errors.Is(err, detach.ErrDetached) {
		return err
	}
	if s.once {
		return s.processes.CloseStdin(context.WithoutCancel(ctx), s.key)
	}
	if err == nil {
		return errInputOver
	}
	return nil
}
