// Package api is the command line's client of the Engine API: one request after the other over
// its own connections, with the wire types of github.com/moby/moby/api.
//
// It exists because of start-up time: the general client library links tracing and a transport with
// background goroutines, which costs a command more than a millisecond before main. Requests and
// responses are read and written by net/http; only the connections are ours, which makes taking one
// over (attach, exec) trivial.
//
// Version negotiation costs no round trip when the engine is as new as we are: requests carry
// the highest version known here, and an engine that refuses it says what it speaks.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// Config says how to reach an engine.
type Config struct {
	Host       string            // as the user wrote it, for messages: unix:///run/gantry.sock
	Dial       Dialer            // opens a connection (TLS included)
	HostHeader string            // Host header; empty for local sockets
	BasePath   string            // path in front of every request, from tcp://host:port/path
	Version    string            // fixed API version; empty negotiates
	Headers    map[string]string // sent with every request
	UserAgent  string
	Program    string // name for hints in connection errors
}

// Client talks to one engine. Its methods may be called from several goroutines.
type Client struct {
	cfg Config
	pool
	negotiation
}

// New makes a client; nothing is dialled yet.
func New(cfg Config) *Client {
	c := &Client{cfg: cfg, pool: pool{endpoint: endpoint{cfg.Host, cfg.Program, cfg.Dial}}, negotiation: negotiation{version: MaxVersion}}
	if cfg.Version != "" {
		c.version, c.settled = strings.TrimPrefix(cfg.Version, "v"), true
	}
	return c
}

// Request is one call. Body is JSON-encoded unless it is an io.Reader, which is
// streamed and can be sent only once.
type Request struct {
	Method string
	Path   string // below the version: /containers/json
	Query  url.Values
	Body   any
	Header map[string]string
	Raw    bool // no version in front of the path (_ping)
	hijack string
}

// Response is an answer with a status below 400. The body must be closed.
type Response struct {
	Status int
	Header http.Header
	Body   io.ReadCloser
	conn   *conn
}

// Do sends a request and returns the response. A status of 400 or more becomes an *Error.
func (c *Client) Do(ctx context.Context, req Request) (*Response, error) {
	var payload []byte
	stream, streaming := req.Body.(io.Reader)
	if req.Body != nil && !streaming {
		b, err := encode(req.Body)
		if err != nil {
			return nil, err
		}
		payload = b
	}
	// What can be sent only once, or is answered without a text, cannot find the version out by being refused.
	if (streaming || req.Method == http.MethodHead) && !req.Raw {
		if err := c.Negotiate(ctx); err != nil {
			return nil, err
		}
	}
	for range 3 {
		resp, err := c.once(ctx, req, payload, stream)
		if err == nil {
			return resp, nil
		}
		if !streaming && errors.Is(err, errStale) {
			continue
		}
		if !streaming && c.negotiation.downgrade(err) {
			continue
		}
		return nil, err
	}
	return nil, fmt.Errorf("%s %s: the engine at %s keeps closing the connection", req.Method, req.Path, c.cfg.Host)
}

func (c *Client) once(ctx context.Context, req Request, payload []byte, stream io.Reader) (*Response, error) {
	cn, err := c.pool.get(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { cn.Close() })
	fail := func(err error) (*Response, error) {
		stop()
		cn.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	hr, err := c.build(req, payload, stream)
	if err != nil {
		return fail(err)
	}
	res, err := cn.roundTrip(hr, stream != nil)
	if err != nil {
		return fail(err)
	}
	c.negotiation.learn(res.Header)
	out := &Response{Status: res.StatusCode, Header: res.Header, conn: cn}
	if req.hijack != "" && (res.StatusCode == http.StatusSwitchingProtocols || res.StatusCode == http.StatusOK) {
		stop()
		out.Body = http.NoBody
		return out, nil
	}
	out.Body = &body{rc: res.Body, cn: cn, stop: stop, ctx: ctx, reusable: !res.Close && stream == nil}
	if res.StatusCode >= 400 {
		return nil, readError(req, out)
	}
	return out, nil
}

func (c *Client) build(req Request, payload []byte, stream io.Reader) (*http.Request, error) {
	p := c.cfg.BasePath
	if !req.Raw {
		p += "/v" + c.Version()
	}
	p += req.Path
	u := &url.URL{Scheme: "http", Host: "localhost", Path: p, RawQuery: req.Query.Encode()}
	if unescaped, err := url.PathUnescape(p); err == nil && unescaped != p {
		u.Path, u.RawPath = unescaped, p
	}
	var rd io.Reader
	switch {
	case stream != nil:
		rd = stream
	case payload != nil:
		rd = bytes.NewReader(payload)
	}
	hr, err := http.NewRequest(req.Method, u.String(), rd)
	if err != nil {
		return nil, err
	}
	if c.cfg.HostHeader != "" {
		hr.Host = c.cfg.HostHeader
	} else {
		hr.Host = "api.moby.localhost"
	}
	for k, v := range c.cfg.Headers {
		hr.Header.Set(k, v)
	}
	hr.Header.Set("User-Agent", c.cfg.UserAgent)
	if payload != nil {
		hr.Header.Set("Content-Type", "application/json")
	}
	for k, v := range req.Header {
		hr.Header.Set(k, v)
	}
	if req.hijack != "" {
		hr.Header.Set("Connection", "Upgrade")
		hr.Header.Set("Upgrade", req.hijack)
	}
	return hr, nil
}

// body gives its connection back once it is read to the end.
type body struct {
	rc       io.ReadCloser
	cn       *conn
	stop     func() bool
	ctx      context.Context
	reusable bool
	done     sync.Once
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.rc.Read(p)
	if err == io.EOF {
		b.finish(b.reusable)
	} else if err != nil && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *body) Close() error {
	b.finish(false)
	return nil
}

func (b *body) finish(reuse bool) {
	b.done.Do(func() {
		if b.stop() && reuse {
			b.cn.pool.put(b.cn)
			return
		}
		b.cn.Close()
	})
}

// JSON sends a request and decodes the answer into out, which may be nil.
func (c *Client) JSON(ctx context.Context, req Request, out any) error {
	resp, err := c.Do(ctx, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err := io.Copy(io.Discard, resp.Body)
		return err
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = b
		return nil
	}
	return json.Unmarshal(b, out)
}

// Get is JSON for a GET without body.
func (c *Client) Get(ctx context.Context, path string, q url.Values, out any) error {
	return c.JSON(ctx, Request{Method: http.MethodGet, Path: path, Query: q}, out)
}

// Post is JSON for a POST.
func (c *Client) Post(ctx context.Context, path string, q url.Values, in, out any) error {
	return c.JSON(ctx, Request{Method: http.MethodPost, Path: path, Query: q, Body: in}, out)
}

// Delete is JSON for a DELETE.
func (c *Client) Delete(ctx context.Context, path string, q url.Values, out any) error {
	return c.JSON(ctx, Request{Method: http.MethodDelete, Path: path, Query: q}, out)
}

// Stream returns the body of a GET.
func (c *Client) Stream(ctx context.Context, path string, q url.Values) (io.ReadCloser, error) {
	resp, err := c.Do(ctx, Request{Method: http.MethodGet, Path: path, Query: q})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Decode reads one JSON value.
func Decode(r io.Reader, out any) error { return json.NewDecoder(r).Decode(out) }
