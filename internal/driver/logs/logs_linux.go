// Package logs reads the log files that the keeper writes: json-file and local,
// with their rotated and compressed predecessors, from the end where only the
// last entries are wanted, and onwards while they grow. It implements containers.Logs.
package logs

import (
	"context"
	"fmt"
	"iter"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/logformat/logopt"
	"github.com/gantry-engine/gantry/internal/service/containers"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Logs reads logs. It has no state.
type Logs struct{}

// New gives a reader of logs.
func New() *Logs { return &Logs{} }

var _ containers.Logs = (*Logs)(nil)

// Readable says why a driver's logs cannot be read, or nil.
func (*Logs) Readable(driver string) error {
	if driver == "json-file" || driver == "local" {
		return nil
	}
	return fmt.Errorf("configured logging driver does not support reading: %w", errdefs.ErrNotImplemented)
}

// Validate checks a driver's name and options.
func (*Logs) Validate(driver string, options map[string]string) error {
	_, err := logopt.Parse(driver, options)
	return err
}

// Read yields entries, oldest first; see containers.Logs. A log that was never
// written is empty. An entry is valid until the next one is asked for.
func (l *Logs) Read(ctx context.Context, cfg spec.LogConfig, opts containers.LogOptions, ended <-chan struct{}) iter.Seq2[containers.LogEntry, error] {
	return func(yield func(containers.LogEntry, error) bool) {
		if err := l.Readable(cfg.Driver); err != nil {
			yield(containers.LogEntry{}, err)
			return
		}
		r := &reading{ctx: ctx, cfg: cfg, opts: opts, yield: yield}
		if err := r.run(ended); err != nil {
			yield(containers.LogEntry{}, err)
		}
	}
}

// reading is one call of Read.
type reading struct {
	ctx   context.Context
	cfg   spec.LogConfig
	opts  containers.LogOptions
	yield func(containers.LogEntry, error) bool
	done  bool // the consumer has enough, or Until was passed
}

func (r *reading) run(ended <-chan struct{}) error {
	var w *watcher
	if r.opts.Follow {
		// Watching before reading: nothing that is written in between is overlooked.
		var err error
		if w, err = watch(r.cfg.Path); err != nil {
			return err
		}
		defer w.close()
	}
	files, err := openAll(r.cfg.Path)
	if err != nil {
		return err
	}
	defer files.close()
	if r.opts.Tail >= 0 {
		if err := files.tail(r.opts.Tail, r.cfg.Driver); err != nil {
			return err
		}
	}
	for i, f := range files.list {
		if f.skip {
			continue
		}
		if i == len(files.list)-1 && r.opts.Follow {
			break // the current one, which is followed
		}
		s, err := f.scanner(r.cfg.Driver)
		if err != nil {
			return err
		}
		if err := r.drain(s); err != nil || r.done {
			return err
		}
	}
	if !r.opts.Follow {
		return nil
	}
	return r.follow(files, w, ended)
}

// drain yields what a scanner has.
func (r *reading) drain(s *scanner) error {
	for n := 0; !r.done; n++ {
		if n&1023 == 0 && r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		e, ok, err := s.next()
		if err != nil || !ok {
			return err
		}
		if !r.opts.Since.IsZero() && e.Time.Before(r.opts.Since) {
			continue
		}
		if !r.opts.Until.IsZero() && e.Time.After(r.opts.Until) {
			r.done = true
			return nil
		}
		if e.Stream == spec.Stderr && !r.opts.Stderr || e.Stream == spec.Stdout && !r.opts.Stdout {
			continue
		}
		if !r.yield(e, nil) {
			r.done = true
		}
	}
	return nil
}
