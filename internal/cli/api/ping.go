package api

import (
	"context"
	"io"
	"net/http"
)

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
	c.negotiation.accept(p.APIVersion)
	return p, nil
}

// Negotiate asks the engine for its version unless it is known already.
func (c *Client) Negotiate(ctx context.Context) error {
	if c.negotiation.done() {
		return nil
	}
	_, err := c.Ping(ctx)
	return err
}
