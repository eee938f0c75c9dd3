package server

import (
	"errors"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
)

// classes is the one table between error classes and HTTP status codes. Going
// from class to status, the first row that matches the error counts; going back,
// the first row with the status.
var classes = []struct {
	class  error
	status int
}{
	{errdefs.ErrNotModified, http.StatusNotModified},
	{errdefs.ErrInvalidArgument, http.StatusBadRequest},
	{errdefs.ErrOutOfRange, http.StatusBadRequest},
	{errdefs.ErrUnauthenticated, http.StatusUnauthorized},
	{errdefs.ErrPermissionDenied, http.StatusForbidden},
	{errdefs.ErrNotFound, http.StatusNotFound},
	{errdefs.ErrConflict, http.StatusConflict},
	{errdefs.ErrAlreadyExists, http.StatusConflict},
	{errdefs.ErrFailedPrecondition, http.StatusConflict},
	{errdefs.ErrAborted, http.StatusConflict},
	{errdefs.ErrResourceExhausted, http.StatusTooManyRequests},
	{errdefs.ErrNotImplemented, http.StatusNotImplemented},
	{errdefs.ErrUnavailable, http.StatusServiceUnavailable},
	{errdefs.ErrInternal, http.StatusInternalServerError},
	{errdefs.ErrDataLoss, http.StatusInternalServerError},
	{errdefs.ErrUnknown, http.StatusInternalServerError},
}

// Status is the HTTP status of an error; one without class is 500.
func Status(err error) int {
	for _, c := range classes {
		if errors.Is(err, c.class) {
			return c.status
		}
	}
	// Libraries have error types of their own that tell their class by a method.
	if class := errdefs.Resolve(err); class != errdefs.ErrUnknown && class != nil && !errors.Is(class, err) {
		for _, c := range classes {
			if errors.Is(class, c.class) {
				return c.status
			}
		}
	}
	return http.StatusInternalServerError
}

// Class is the error class of an HTTP status, nil below 300.
func Class(status int) error {
	if status < 300 && status != http.StatusNotModified {
		return nil
	}
	for _, c := range classes {
		if c.status == status {
			return c.class
		}
	}
	if status >= 400 && status < 500 {
		return errdefs.ErrInvalidArgument
	}
	return errdefs.ErrUnknown
}

// Message is the error's text without the names of classes that wrapping left
// at its end: clients see "No such container: x", not "No such container: x: not found".
// The same words from elsewhere, as the kernel's "permission denied", stay.
func Message(err error) string {
	text := err.Error()
	for again := true; again; {
		again = false
		for _, c := range classes {
			if !errors.Is(err, c.class) {
				continue
			}
			for _, sep := range []string{": ", "\n"} {
				if rest, ok := strings.CutSuffix(text, sep+c.class.Error()); ok && rest != "" {
					text, again = rest, true
				}
			}
		}
	}
	return text
}
