package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

var tooNew = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)client version [0-9.]+ is too new\. Maximum supported API version is ([0-9]+\.[0-9]+)`)
})

// learn remembers what the engine says about itself in every answer.
func (c *Client) learn(h http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := h.Get("Ostype"); v != "" {
		c.osType = v
	}
	if v := h.Get("Api-Version"); v != "" && !c.negotiated && !LessThan(v, c.version) {
		c.negotiated = true
	}
}

// downgrade takes the version an engine names when it refuses ours, and says whether a retry makes sense.
func (c *Client) downgrade(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Status != http.StatusBadRequest {
		return false
	}
	m := tooNew().FindStringSubmatch(e.Message)
	c.mu.Lock()
	defer c.mu.Unlock()
	if m != nil && c.version == m[1] {
		return true // a request sent at the same time was answered first
	}
	if m == nil || c.negotiated || !LessThan(m[1], c.version) || LessThan(m[1], MinVersion) {
		return false
	}
	c.version, c.negotiated = m[1], true
	return true
}

// Negotiate asks the engine for its version unless it is known already.
func (c *Client) Negotiate(ctx context.Context) error {
	c.mu.Lock()
	done := c.negotiated
	c.mu.Unlock()
	if done {
		return nil
	}
	_, err := c.Ping(ctx)
	return err
}

// Ping is what an engine says of itself in the headers of every answer.
type Ping struct {
	APIVersion, OSType, Builder string
	Experimental                bool
}

// Ping asks for those headers, and settles the version.
func (c *Client) Ping(ctx context.Context) (Ping, error) {
	resp, err := c.Do(ctx, Request{Method: http.MethodGet, Path: "/_ping", Raw: true})
	if err != nil {
		return Ping{}, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	p := Ping{APIVersion: resp.Header.Get("Api-Version"), OSType: resp.Header.Get("Ostype"), Builder: resp.Header.Get("Builder-Version"),
		Experimental: resp.Header.Get("Docker-Experimental") == "true"}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.negotiated && p.APIVersion != "" {
		if LessThan(p.APIVersion, c.version) && !LessThan(p.APIVersion, MinVersion) {
			c.version = p.APIVersion
		}
		c.negotiated = true
	}
	return p, nil
}

// OSType is the engine's operating system once an answer was seen, else empty.
func (c *Client) OSType() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.osType
}

// LessThan compares API versions such as 1.41 and 1.9 number by number.
func LessThan(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; i < len(as) || i < len(bs); i++ {
		var x, y int
		if i < len(as) {
			x, _ = strconv.Atoi(as[i])
		}
		if i < len(bs) {
			y, _ = strconv.Atoi(bs[i])
		}
		if x != y {
			return x < y
		}
	}
	return false
}
