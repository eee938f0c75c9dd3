package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	cimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// refusal is a host's answer that is no success.
type refusal struct {
	status int
	host   string
	codes  []string
	text   string
	after  time.Duration // how long the host wants to be left alone; 0 if it does not say
}

func (r *refusal) Error() string { return r.text }

func (r *refusal) has(code string) bool {
	for _, c := range r.codes {
		if c == code {
			return true
		}
	}
	return false
}

// maxErrorBody bounds what is read of an error's body, in bytes.
const maxErrorBody = 64 << 10

// refused reads an answer that is no success, and closes it.
func refused(resp *http.Response) *refusal {
	defer resp.Body.Close()
	r := &refusal{status: resp.StatusCode, host: resp.Request.URL.Host}
	r.after, _ = retryAfter(resp.Header, time.Now())
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	var body struct {
		Errors []struct {
			Code    string
			Message string
		}
	}
	var texts []string
	if json.Unmarshal(b, &body) == nil {
		for _, e := range body.Errors {
			r.codes = append(r.codes, e.Code)
			texts = append(texts, strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))+": "+e.Message)
		}
	}
	switch {
	case len(texts) > 0:
		r.text = clean(strings.Join(texts, ", "))
	case resp.StatusCode == http.StatusUnauthorized:
		r.text = "unauthorized: authentication required"
	default:
		r.text = fmt.Sprintf("%s answered %s to %s %s", r.host, resp.Status, resp.Request.Method, resp.Request.URL.Redacted())
		if t := clean(string(b)); t != "" && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			r.text += ": " + t
		}
	}
	return r
}

// clean bounds what a registry says, and keeps it from moving the terminal's cursor.
func clean(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 {
			return ' '
		}
		return c
	}, s)
	if len(s) > 1000 {
		s = strings.ToValidUTF8(s[:1000], "") + "…" // no half of a character
	}
	return strings.TrimSpace(s)
}

// class is what a refusal means to our own client.
func (r *refusal) class() error {
	switch {
	case r.status == http.StatusUnauthorized:
		return errdefs.ErrUnauthenticated
	case r.status == http.StatusForbidden:
		return errdefs.ErrPermissionDenied
	case r.status == http.StatusNotFound:
		return errdefs.ErrNotFound
	case r.status == http.StatusTooManyRequests, r.has("TOOMANYREQUESTS"):
		return errdefs.ErrUnavailable
	case r.status >= 500:
		return errdefs.ErrUnavailable
	}
	return errdefs.ErrInvalidArgument
}

// pullError says what a refused pull means.
func (r *Repository) pullError(tag string, err error) error {
	var u unauthorized
	var f *refusal
	switch {
	case errors.As(err, &u):
		return r.denied(u.error)
	case !errors.As(err, &f):
		return err
	case tag == "" && f.status == http.StatusNotFound:
		return r.denied(f)
	case f.has("MANIFEST_UNKNOWN"), f.status == http.StatusNotFound && !f.has("NAME_UNKNOWN") && !f.has("NAME_INVALID"):
		sep := ":"
		if strings.Contains(tag, ":") {
			sep = "@"
		}
		return classed.Errorf(errdefs.ErrNotFound, "manifest for %s%s%s not found: %w", r.familiar, sep, tag, f)
	case f.status == http.StatusUnauthorized, f.status == http.StatusForbidden, f.has("DENIED"), f.has("NAME_UNKNOWN"):
		return r.denied(f)
	}
	return classed.Errorf(f.class(), "%w", f)
}

// fetchError says what a manifest or blob means that cannot be fetched.
func (r *Repository) fetchError(d ocispec.Descriptor, err error) error {
	var f *refusal
	if errors.As(err, &f) && f.status == http.StatusNotFound && !cimages.IsIndexType(d.MediaType) && !cimages.IsManifestType(d.MediaType) {
		return classed.Errorf(errdefs.ErrNotFound, "the registry does not have %s, which is a part of an image in %s: %w", d.Digest, r.familiar, f)
	}
	return r.pullError(d.Digest.String(), err)
}

// Unknown tells, of an error of the class "not found", whether the registry says that it does not have something. Else it may
// only not be for this user.
func Unknown(err error) bool {
	var f *refusal
	return errdefs.IsNotFound(err) && errors.As(err, &f)
}

// denied is one answer to two questions: registries do not tell strangers what they have.
func (r *Repository) denied(why error) error {
	return classed.Errorf(errdefs.ErrNotFound, "pull access denied for %s, repository does not exist or may require 'docker login': %v", r.familiar, why)
}

// pushError says what a refused push means.
func (r *Repository) pushError(err error) error {
	var u unauthorized
	var f *refusal
	switch {
	case errors.As(err, new(sourceError)):
		return err // ours, whatever another registry may have said to it
	case errors.As(err, &u):
		return classed.Errorf(errdefs.ErrPermissionDenied, "push access denied for %s: %v", r.familiar, u.error)
	case !errors.As(err, &f):
		return err
	}
	return classed.Errorf(f.class(), "%w", f)
}
