package containers

import (
	"context"
	"iter"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

type logReader struct{ *core }

// LogStream is a container's log, ready to be written to a client.
type LogStream struct {
	TTY     bool                         // raw bytes; otherwise frames
	Batches iter.Seq2[[]LogEntry, error] // see Logs.Read
}

// ReadLogs opens a container's log. With opts.Follow the entries end when the container does.
func (l *logReader) ReadLogs(ctx context.Context, ref string, opts LogOptions) (LogStream, error) {
	if !opts.Stdout && !opts.Stderr {
		return LogStream{}, classed.Invalid("Bad parameters: you must choose at least one stream")
	}
	e, err := l.reg.get(ref)
	if err != nil {
		return LogStream{}, err
	}
	rec := e.snapshot()
	if rec.State.Status == Removing || rec.State.Status == Dead {
		return LogStream{}, classed.Conflict("can not get logs from container which is dead or marked for removal")
	}
	if err := l.Logs.Readable(rec.Log.Driver); err != nil {
		return LogStream{}, err
	}
	r := e.current()
	ended := r.ended
	if now := e.snapshot(); !now.Running() { // it may have run and ended since
		opts.Follow = opts.Follow && now.State.Status == Created
	}
	return LogStream{TTY: rec.Config.Tty, Batches: l.Logs.Read(ctx, rec.Log, opts, ended)}, nil
}
