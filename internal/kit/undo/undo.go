// Package undo keeps the list of what must be reversed when a later step fails.
//
//	var u undo.Stack
//	defer u.OnError(ctx, &err)
//	dir, err := make()
//	u.Push("directory", func(context.Context) error { return os.Remove(dir) })
package undo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Limit bounds how long all steps of one stack may take together.
const Limit = 30 * time.Second

type step struct {
	what string
	run  func(context.Context) error
}

// Stack holds the reversals of the steps done so far. Its zero value is empty.
type Stack struct{ steps []step }

// Push records how to reverse the step just done; what names it in errors.
func (s *Stack) Push(what string, run func(context.Context) error) {
	s.steps = append(s.steps, step{what, run})
}

// Run reverses all steps, last first, and forgets them. It goes on after a
// failure and is detached from ctx's cancellation: a client that hangs up must
// not leave half of a container behind.
func (s *Stack) Run(ctx context.Context) error {
	if len(s.steps) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), Limit, errors.New("undoing took too long"))
	defer cancel()
	var errs []error
	for i := len(s.steps) - 1; i >= 0; i-- {
		if err := s.steps[i].run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("undoing %s: %w", s.steps[i].what, err))
		}
	}
	s.steps = nil
	return errors.Join(errs...)
}

// Commit forgets all steps: what was done stays.
func (s *Stack) Commit() { s.steps = nil }

// OnError runs the stack if *err is set, and joins what failed on the way.
func (s *Stack) OnError(ctx context.Context, err *error) {
	if *err == nil {
		s.Commit()
		return
	}
	if uerr := s.Run(ctx); uerr != nil {
		*err = errors.Join(*err, uerr)
	}
}
