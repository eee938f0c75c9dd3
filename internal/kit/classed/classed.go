// Package classed makes errors that have a text for users and a class for the
// server, without the class's own name in the text: clients compare these texts.
package classed

import (
	"fmt"

	"github.com/containerd/errdefs"
)

type classError struct {
	class error
	text  string
	cause error
}

func (e *classError) Error() string { return e.text }

func (e *classError) Unwrap() []error { return []error{e.class, e.cause} }

// Errorf makes an error of a class of errdefs. The class does not show in the text; a %w keeps its cause.
func Errorf(class error, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &classError{class: class, text: err.Error(), cause: err}
}

// Invalid is an error of a request that can never work.
func Invalid(format string, args ...any) error {
	return Errorf(errdefs.ErrInvalidArgument, format, args...)
}

// Conflict is an error of a request that does not fit what is there.
func Conflict(format string, args ...any) error {
	return Errorf(errdefs.ErrConflict, format, args...)
}

// Unsupported refuses an option that is not there yet, by its name.
func Unsupported(option string) error {
	return Errorf(errdefs.ErrNotImplemented, "%s is not supported by this engine yet", option)
}
