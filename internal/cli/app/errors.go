package app

import (
	"errors"
	"fmt"
	"strings"
)

// Exit is an error with the status the program ends with. An empty text prints nothing.
type Exit struct {
	Code int
	Err  error
}

func (e *Exit) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

// Unwrap gives the cause.
func (e *Exit) Unwrap() error { return e.Err }

// ExitCode is the status for an error: its own, else 1.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	var e *Exit
	if errors.As(err, &e) && e.Code != 0 {
		return e.Code
	}
	return 1
}

// WithHelp is how run and create report: the program's name in front, where to read on behind.
func (a *App) WithHelp(err error, command string) error {
	return fmt.Errorf("%s: %w\n\nRun '%s %s --help' for more information", a.Name, err, a.Name, command)
}

// Each carries f out for every argument, prints what succeeds and collects what fails.
func (a *App) Each(args []string, f func(string) error) error {
	var errs []error
	for _, arg := range args {
		if err := f(arg); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(a.Out, arg)
	}
	return errors.Join(errs...)
}

// ErrSkip from an action means: nothing done, nothing to print, no failure.
var ErrSkip = errors.New("skipped")

// Parallel is Each with up to 50 requests at a time, results in the order of the arguments.
func (a *App) Parallel(args []string, f func(string) error) error {
	results := make([]chan error, len(args))
	slots := make(chan struct{}, 50)
	for i, arg := range args {
		results[i] = make(chan error, 1)
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] <- f(arg)
		}()
	}
	var errs []error
	for i, arg := range args {
		if err := <-results[i]; err == ErrSkip {
			continue
		} else if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(a.Out, arg)
	}
	return errors.Join(errs...)
}

// Refuse ends a command with a usage error of its own.
func Refuse(format string, v ...any) error {
	return errors.New(strings.TrimSpace(fmt.Sprintf(format, v...)))
}
