package containers

import (
	"context"
	"errors"
	"io"

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
	s := session{processes: a.Processes, key: rec.Key(), streams: st, out: out, run: r, removed: e.removed,
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
