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
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
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

// Do sends a request and returns the response. A status of 400 or more becomes an *Error.
func (c *Client) Do(ctx context.Context, req Request) (*Response, error) {
	payload, stream, err := req.payload()
	if err != nil {
		return nil, err
	}
	streaming := stream != nil
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

// once sends a request on one connection, which the response keeps.
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
	hr, err := req.build(&c.cfg, c.Version(), payload, stream)
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
