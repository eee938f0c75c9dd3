package containers

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/containers/detach"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Streams are a client's ends of a connection. A nil end is not attached.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Gone, if set, is closed when the client has left, for connections on which nothing is read.
	Gone <-chan struct{}
}

// Opener takes over the client's connection once nothing can be refused any
// more. mux tells whether the output needs the frames of the attach protocol
// (no terminal); the Streams' writers add them.
type Opener func(mux bool) (Streams, error)

// AttachOptions are what attach takes.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	Stream                bool   // follow what comes
	Logs                  bool   // first what was written before
	DetachKeys            string // "ctrl-p,ctrl-q" when empty
	Open                  Opener
}

type attacher struct{ *core }

// Attach connects a client to the container's main process until the process
// ends, the client leaves or types the detach keys. Of a container that was not
// started yet it sees everything from the start.
func (a *attacher) Attach(ctx context.Context, ref string, o AttachOptions) error {
	keys, err := detach.Parse(o.DetachKeys)
	if err != nil {
		return err
	}
	e, err := a.reg.get(ref)
	if err != nil {
		return err
	}
	rec := e.snapshot()
	switch rec.State.Status {
	case Paused:
		return classed.Conflict("container %s is paused, unpause the container before attach", ref)
	case Restarting:
		return classed.Conflict("container %s is restarting, wait until the container is running", ref)
	}
	r := e.current()
	var out OutputReader
	if o.Stream && (o.Stdout || o.Stderr) {
		if out, err = a.Outputs.Follow(ctx, rec.Key()); err != nil {
			return err
		}
		defer out.Close()
	}
	st, err := o.Open(!rec.Config.Tty)
	if err != nil {
		return err
	}
	if o.Logs {
		if err := a.replay(ctx, rec, o, st); err != nil {
			return err
		}
	}
	if !o.Stream {
		return nil
	}
	a.publish(rec, events.ActionAttach, nil)
	s := session{core: a.core, key: rec.Key(), streams: st, out: out, run: r, removed: e.removed,
		stdin: o.Stdin && rec.Config.OpenStdin, once: rec.Config.StdinOnce && !rec.Config.Tty, wantOut: o.Stdout, wantErr: o.Stderr}
	if rec.Config.Tty {
		s.keys = keys
	}
	err = s.copy(ctx)
	if errors.Is(err, detach.ErrDetached) {
		a.publish(e.snapshot(), events.ActionDetach, nil)
		return nil
	}
	return err
}

// replay writes what the log has so far.
func (a *attacher) replay(ctx context.Context, rec *Container, o AttachOptions, st Streams) error {
	if err := a.Logs.Readable(rec.Log.Driver); err != nil {
		return err
	}
	for batch, err := range a.Logs.Read(ctx, rec.Log, LogOptions{Stdout: o.Stdout, Stderr: o.Stderr, Tail: -1}, nil) {
		if err != nil {
			return err
		}
		for _, entry := range batch {
			if w := st.writer(entry.Stream); w != nil {
				if _, err := w.Write(entry.Line); err != nil {
					return nil // the client left
				}
			}
		}
	}
	return nil
}

func (s Streams) writer(n spec.Stream) io.Writer {
	if n == spec.Stderr {
		return s.Stderr
	}
	return s.Stdout
}

// errInputOver ends a session whose client has nothing more to type, at a process whose
// input stays open for the next client: such a client has left.
var errInputOver = errors.New("the client's input has ended")

// errLeft ends a session whose client has gone.
var errLeft = errors.New("the client has left")

// session is one client at one process: input one way, output the other.
type session struct {
	*core
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
	dst, err := s.Processes.Handle(ctx, s.key, kind)
	if err != nil {
		return err
	}
	defer dst.Close()
	_, err = io.Copy(dst, src)
	if errors.Is(err, detach.ErrDetached) {
		return err
	}
	if s.once {
		return s.Processes.CloseStdin(context.WithoutCancel(ctx), s.key)
	}
	if err == nil {
		return errInputOver
	}
	return nil
}
