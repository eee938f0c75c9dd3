// Package refusal has the errors of the distribution protocol: the one table of codes, their HTTP status and their
// meaning, and the error value that all parts of the registry speak.
package refusal

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
)

// Code is one row of the table.
type Code struct {
	Name   string // as the specification spells it
	Status int    // of the HTTP answer
	Text   string // what it says when nothing more exact is known
	class  error
}

// The codes of the distribution specification, and those that its own server added.
var (
	BlobUnknown         = Code{"BLOB_UNKNOWN", http.StatusNotFound, "blob unknown to registry", errdefs.ErrNotFound}
	BlobUploadInvalid   = Code{"BLOB_UPLOAD_INVALID", http.StatusBadRequest, "blob upload invalid", errdefs.ErrInvalidArgument}
	BlobUploadUnknown   = Code{"BLOB_UPLOAD_UNKNOWN", http.StatusNotFound, "blob upload unknown to registry", errdefs.ErrNotFound}
	DigestInvalid       = Code{"DIGEST_INVALID", http.StatusBadRequest, "provided digest did not match uploaded content", errdefs.ErrInvalidArgument}
	ManifestBlobUnknown = Code{"MANIFEST_BLOB_UNKNOWN", http.StatusBadRequest, "manifest references a manifest or blob unknown to registry", errdefs.ErrNotFound}
	ManifestInvalid     = Code{"MANIFEST_INVALID", http.StatusBadRequest, "manifest invalid", errdefs.ErrInvalidArgument}
	ManifestTooLarge    = Code{"MANIFEST_INVALID", http.StatusRequestEntityTooLarge, "manifest too large", errdefs.ErrInvalidArgument}
	ManifestUnknown     = Code{"MANIFEST_UNKNOWN", http.StatusNotFound, "manifest unknown to registry", errdefs.ErrNotFound}
	NameInvalid         = Code{"NAME_INVALID", http.StatusBadRequest, "invalid repository name", errdefs.ErrInvalidArgument}
	NameUnknown         = Code{"NAME_UNKNOWN", http.StatusNotFound, "repository name not known to registry", errdefs.ErrNotFound}
	SizeInvalid         = Code{"SIZE_INVALID", http.StatusBadRequest, "provided length did not match content length", errdefs.ErrInvalidArgument}
	RangeInvalid        = Code{"BLOB_UPLOAD_INVALID", http.StatusRequestedRangeNotSatisfiable, "chunk does not begin where the upload stands", errdefs.ErrOutOfRange}
	TagInvalid          = Code{"TAG_INVALID", http.StatusBadRequest, "invalid tag", errdefs.ErrInvalidArgument}
	Unauthorized        = Code{"UNAUTHORIZED", http.StatusUnauthorized, "authentication required", errdefs.ErrUnauthenticated}
	Denied              = Code{"DENIED", http.StatusForbidden, "requested access to the resource is denied", errdefs.ErrPermissionDenied}
	Unsupported         = Code{"UNSUPPORTED", http.StatusMethodNotAllowed, "the operation is unsupported", errdefs.ErrNotImplemented}
	TooManyRequests     = Code{"TOOMANYREQUESTS", http.StatusTooManyRequests, "too many requests", errdefs.ErrResourceExhausted}
	PageInvalid         = Code{"PAGINATION_NUMBER_INVALID", http.StatusBadRequest, "invalid number of results requested", errdefs.ErrInvalidArgument}
	Unavailable         = Code{"UNAVAILABLE", http.StatusServiceUnavailable, "service unavailable", errdefs.ErrUnavailable}
	Upstream            = Code{"UNAVAILABLE", http.StatusBadGateway, "another registry does not answer", errdefs.ErrUnavailable}
	Full                = Code{"UNAVAILABLE", http.StatusInsufficientStorage, "no space left", errdefs.ErrUnavailable}
	Unknown             = Code{"UNKNOWN", http.StatusInternalServerError, "unknown error", errdefs.ErrInternal}
)

// Error is a refusal: a code, a text for people, and a detail for programs.
type Error struct {
	Code   Code
	Text   string
	Detail any // goes into the answer as JSON; nil for none
	// Challenge is the answer\'s WWW-Authenticate header: how to say who one is.
	Challenge string
	cause     error
}

// New makes a refusal. A %w in the text keeps its cause.
func (c Code) New(format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: c, Text: err.Error(), cause: errors.Unwrap(err)}
}

// With adds a detail.
func (e *Error) With(detail any) *Error {
	e.Detail = detail
	return e
}

func (e *Error) Error() string { return e.Text }

// Unwrap gives the class of errdefs, and the cause if there is one.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.Code.class}
	}
	return []error{e.Code.class, e.cause}
}

// Is tells whether err is a refusal with this code.
func (c Code) Is(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code.Name == c.Name
}

// Of finds the refusal in an error; an error without one is Unknown, and its text is not for strangers.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: Unknown, Text: "the registry failed; its log says why", cause: err}
}

// Body is the answer's JSON.
func (e *Error) Body() []byte {
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	b, err := json.Marshal(map[string][]entry{"errors": {{e.Code.Name, e.Text, e.Detail}}})
	if err != nil { // a detail that is no JSON
		b, _ = json.Marshal(map[string][]entry{"errors": {{e.Code.Name, e.Text, nil}}})
	}
	return b
}
