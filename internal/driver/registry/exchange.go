package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
)

// exchange sends requests: authorized, and again where that may help.
type exchange struct {
	userAgent string
	attempts  int
	log       *slog.Logger
	sleep     func(context.Context, time.Duration) error
}

// request is one call. The path is below the host's; a location that a host gave goes in whole.
type request struct {
	method   string
	path     string
	location *url.URL
	query    url.Values
	header   http.Header
	body     func() (io.ReadCloser, error) // nil for none; called for each attempt
	length   int64                         // of the body; -1 is not known
	once     bool                          // it must not be sent a second time but for authorization
}

// How long a busy host is waited for.
const (
	firstWait = 250 * time.Millisecond
	maxWait   = 30 * time.Second
)

// do sends a request and gives the answer, whatever its status, once the host neither wants authorization nor is busy.
// Its body has to be closed.
func (x *exchange) do(ctx context.Context, h *docker.RegistryHost, q request) (*http.Response, error) {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		resp, err := x.authorized(ctx, h, q)
		last := q.once || attempt >= x.attempts
		pause := wait + rand.N(wait/4+1)
		switch {
		case err != nil:
			if last || !passing(err) || ctx.Err() != nil {
				return nil, sayWhere(ctx, h, err)
			}
		case busy(resp):
			asked, ok := retryAfter(resp.Header, time.Now())
			if ok {
				pause = asked
			}
			if last || pause > maxWait {
				return resp, nil
			}
			drain(resp)
		default:
			return resp, nil
		}
		x.log.Debug("asking a registry again", "host", h.Host, "path", q.path, "in", pause, "error", err)
		if err := x.sleep(ctx, pause); err != nil {
			return nil, err
		}
		wait = min(2*wait, maxWait)
	}
}

// busy tells whether an answer may be another one a moment later.
func busy(resp *http.Response) bool {
	return resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented
}

// authorized sends a request, and again with what the host wants to see.
func (x *exchange) authorized(ctx context.Context, h *docker.RegistryHost, q request) (*http.Response, error) {
	var answers []*http.Response
	for {
		req, err := x.build(ctx, h, q)
		if err != nil {
			return nil, err
		}
		if h.Authorizer != nil {
			if err := h.Authorizer.Authorize(ctx, req); err != nil {
				closeBody(req)
				return nil, denial(err)
			}
		}
		resp, err := h.Client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized || h.Authorizer == nil || len(answers) == 2 {
			return resp, nil
		}
		answers = append(answers, resp)
		if resp.Request.URL.Host != req.URL.Host { // where it redirected to has other keys
			return resp, nil
		}
		had := req.Header.Get("Authorization")
		if strings.HasPrefix(had, "Basic ") {
			return resp, nil // a password does not get better by being sent again, and some hosts lock the user out
		}
		if err := h.Authorizer.AddResponses(ctx, answers); err != nil {
			if had != "" && errors.Is(err, docker.ErrInvalidAuthorization) || errors.Is(err, errdefs.ErrNotImplemented) {
				return resp, nil // the host's own words say more
			}
			drain(resp)
			return nil, denial(err)
		}
		drain(resp)
	}
}

func (x *exchange) build(ctx context.Context, h *docker.RegistryHost, q request) (*http.Request, error) {
	u := q.location
	if u == nil {
		u = &url.URL{Scheme: h.Scheme, Host: h.Host, Path: h.Path + q.path, RawQuery: q.query.Encode()}
	}
	var body io.ReadCloser
	if q.body != nil {
		var err error
		if body, err = q.body(); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, q.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = q.length
		req.GetBody = q.body
	}
	for k, v := range h.Header {
		req.Header[k] = v
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", x.userAgent)
	// Blobs are what they are: neither host nor Go's client may wrap them into another compression.
	req.Header.Set("Accept-Encoding", "identity")
	return req, nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// drain lets a connection be used again.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}

// unauthorized is a request that was not sent, for want of authorization.
type unauthorized struct{ error }

func (u unauthorized) Unwrap() error { return u.error }

// denial tells a refusal of the authorization server from a failure to reach it.
func denial(err error) error {
	var s remoteerrors.ErrUnexpectedStatus
	if errors.Is(err, docker.ErrInvalidAuthorization) || errors.As(err, &s) && s.StatusCode < 500 && s.StatusCode != http.StatusTooManyRequests {
		return unauthorized{err}
	}
	return err
}

// passing tells whether an error of a connection may be gone a moment later. That nothing listens is told at once.
func passing(err error) bool {
	var u unauthorized
	var dns *net.DNSError
	var status remoteerrors.ErrUnexpectedStatus
	switch {
	case errors.As(err, &u), errors.Is(err, syscall.ECONNREFUSED):
		return false
	case errors.As(err, &status): // of an authorization server
		return status.StatusCode >= 500 || status.StatusCode == http.StatusTooManyRequests
	case errors.As(err, &dns):
		return dns.IsTemporary || dns.IsTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return true
	}
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// retryAfter reads how long a busy host wants to be left alone: seconds, or a date.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	v := h.Get("Retry-After")
	if s, err := strconv.ParseInt(v, 10, 32); err == nil && s >= 0 {
		return time.Duration(s) * time.Second, true
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, t.Sub(now)), true
	}
	return 0, false
}

// sayWhere names the host in an error that does not.
func sayWhere(ctx context.Context, h *docker.RegistryHost, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var u *url.Error
	if errors.As(err, &u) {
		return fmt.Errorf("asking the registry: %w", err)
	}
	return fmt.Errorf("asking the registry %s: %w", h.Host, err)
}
