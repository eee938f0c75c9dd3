package containers

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// classError has a text for users and a class for the server, without the
// class's own name in the text: clients compare these texts.
type classError struct {
	class error
	text  string
	cause error
}

func (e *classError) Error() string { return e.text }

func (e *classError) Unwrap() []error {
	if e.cause != nil {
		return []error{e.class, e.cause}
	}
	return []error{e.class}
}

// classed makes an error of a class with Docker's text. A final %w keeps its cause.
func classed(class error, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &classError{class: class, text: err.Error(), cause: err}
}

func invalid(format string, args ...any) error {
	return classed(errdefs.ErrInvalidArgument, format, args...)
}

func conflict(format string, args ...any) error {
	return classed(errdefs.ErrConflict, format, args...)
}

// unsupported refuses an option that is not there yet, by its name.
func unsupported(option string) error {
	return classed(errdefs.ErrNotImplemented, "%s is not supported by this engine yet", option)
}
