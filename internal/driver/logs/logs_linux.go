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

// Read yields entries in batches, oldest first; see containers.Logs. A log that was
// never written is empty.
func (l *Logs) Read(ctx context.Context, cfg spec.LogConfig, opts containers.LogOptions, ended <-chan struct{}) iter.Seq2[[]containers.LogEntry, error] {
	return func(yield func([]containers.LogEntry, error) bool) {
		if err := l.Readable(cfg.Driver); err != nil {
			yield(nil, err)
			return
		}
		r := &reading{ctx: ctx, cfg: cfg, opts: opts, yield: yield}
		if err := r.run(ended); err != nil {
			yield(nil, err)
		}
	}
}

// reading is one call of Read.
type reading struct {
	ctx   context.Context
	cfg   spec.LogConfig
	opts  containers.LogOptions
	yield func([]containers.LogEntry, error) bool
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
	for !r.done {
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		batch, err := s.next()
		if err != nil || len(batch) == 0 {
			return err
		}
		if batch = r.wanted(batch); len(batch) > 0 && !r.yield(batch, nil) {
			r.done = true
		}
	}
	return nil
}

// wanted leaves in a batch, in place, what the options ask for.
func (r *reading) wanted(batch []containers.LogEntry) []containers.LogEntry {
	o := &r.opts
	if o.Since.IsZero() && o.Until.IsZero() && o.Stdout && o.Stderr {
		return batch
	}
	kept := batch[:0]
	for i := range batch {
		e := &batch[i]
		if !o.Since.IsZero() && e.Time.Before(o.Since) {
			continue
		}
		if !o.Until.IsZero() && e.Time.After(o.Until) {
			r.done = true
			break
		}
		if e.Stream == spec.Stderr && !o.Stderr || e.Stream == spec.Stdout && !o.Stdout {
			continue
		}
		kept = append(kept, *e)
	}
	return kept
}
