// Package httpapi is what every route package shares: the shape of a handler,
// how routes are declared, and how requests and answers are decoded and encoded.
// It knows HTTP and nothing of containers.
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Handler answers a request or returns an error, whose class (containerd/errdefs)
// the server turns into a status code.
type Handler func(ctx context.Context, w http.ResponseWriter, r *http.Request, vars Vars) error

// Vars are the variable parts of the path.
type Vars map[string]string

// Route declares an endpoint. Path is without the version prefix; "{id}" matches
// one segment, "{name*}" one or more (image names contain slashes).
type Route struct {
	Method  string
	Path    string
	Handler Handler
	// Since is the first API version that has the endpoint; empty means always.
	Since string
	// Fields of the answer that came later than the endpoint, or than API 1.24.
	Fields []Field
}

// Router is a group of routes: one per object.
type Router interface {
	Routes() []Route
}

type versionKey struct{}

// WithVersion records the API version that the client negotiated, e.g. "1.43".
func WithVersion(ctx context.Context, v string) context.Context {
	return context.WithValue(ctx, versionKey{}, v)
}

// Version is the API version of the request, e.g. "1.43".
func Version(ctx context.Context) string {
	v, _ := ctx.Value(versionKey{}).(string)
	return v
}

// VersionLess compares two API versions "major.minor".
func VersionLess(a, b string) bool {
	am, an := splitVersion(a)
	bm, bn := splitVersion(b)
	return am < bm || am == bm && an < bn
}

func splitVersion(v string) (major, minor int) {
	x, y, _ := strings.Cut(v, ".")
	major, _ = strconv.Atoi(x)
	minor, _ = strconv.Atoi(y)
	return major, minor
}

// MaxBody is the largest JSON body that is read, in bytes.
const MaxBody = 16 << 20

// ReadJSON decodes the request's body into v. An empty body is an error unless
// optional is set. Data after the first value is an error.
func ReadJSON(r *http.Request, v any, optional bool) error {
	if r.Body == nil || r.ContentLength == 0 {
		if optional {
			return nil
		}
		return fmt.Errorf("the request has no body, a JSON object is needed: %w", errdefs.ErrInvalidArgument)
	}
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != "application/json" {
			return fmt.Errorf("unsupported Content-Type header (%s): must be 'application/json': %w", ct, errdefs.ErrInvalidArgument)
		}
	}
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, MaxBody))
	if err := dec.Decode(v); err != nil {
		var tooBig *http.MaxBytesError
		switch {
		case errors.Is(err, io.EOF) && optional:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("invalid JSON: got EOF while reading request body: %w", errdefs.ErrInvalidArgument)
		case errors.As(err, &tooBig):
			return fmt.Errorf("the request body is larger than %d bytes: %w", MaxBody, errdefs.ErrInvalidArgument)
		}
		return fmt.Errorf("invalid JSON: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if dec.More() {
		return fmt.Errorf("unexpected content after JSON: %w", errdefs.ErrInvalidArgument)
	}
	if path := nullEntry(reflect.ValueOf(v)); path != "" {
		return fmt.Errorf("invalid JSON: %s is null: %w", strings.TrimPrefix(path, "."), errdefs.ErrInvalidArgument)
	}
	return nil
}

// nullEntry finds a null in a list of objects, which Go reads as a nil pointer and nobody means: its
// path, or nothing. Objects that are null as a whole were not given.
func nullEntry(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return nullEntry(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			if !f.CanInterface() || !holds(f.Type()) {
				continue
			}
			if path := nullEntry(f); path != "" {
				if at := v.Type().Field(i); !at.Anonymous {
					return "." + at.Name + path
				}
				return path
			}
		}
	case reflect.Map:
		if !holds(v.Type().Elem()) {
			break
		}
		for it := v.MapRange(); it.Next(); {
			if path := nullEntry(it.Value()); path != "" {
				return "." + fmt.Sprint(it.Key()) + path
			}
		}
	case reflect.Slice:
		if !holds(v.Type().Elem()) {
			break
		}
		for i := range v.Len() {
			e := v.Index(i)
			path := ""
			if e.Kind() != reflect.Pointer || !e.IsNil() {
				if path = nullEntry(e); path == "" {
					continue
				}
			}
			return fmt.Sprintf("[%d]%s", i, path)
		}
	}
	return ""
}

// holds tells whether values of a type can have a pointer inside that JSON fills.
func holds(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Struct, reflect.Map, reflect.Slice:
		return true
	}
	return false
}

// WriteJSON encodes v with the status code, without the route's Fields that the client's
// version does not have.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if fields := omitted(w); len(fields) > 0 {
		return writePruned(w, v, fields)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Bool reads a query parameter as Docker does: absent, "", "0", "no", "false" and
// "none" are false, everything else is true.
func Bool(r *http.Request, name string) bool {
	switch strings.ToLower(strings.TrimSpace(r.FormValue(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// Int64 reads an integer query parameter; absent is def.
func Int64(r *http.Request, name string, def int64) (int64, error) {
	s := r.FormValue(name)
	if s == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the query parameter %s=%q is not a whole number: %w", name, s, errdefs.ErrInvalidArgument)
	}
	return n, nil
}
