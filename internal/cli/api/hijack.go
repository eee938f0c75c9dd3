package api

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/url"
)

// Hijacked is a connection taken over from HTTP: raw bytes both ways.
type Hijacked struct {
	Conn      net.Conn
	Reader    *bufio.Reader // what the engine sends, bytes already buffered included
	MediaType string        // application/vnd.docker.{raw,multiplexed}-stream, or empty
}

// Hijack sends a POST that turns its connection into a byte stream.
func (c *Client) Hijack(ctx context.Context, path string, q url.Values, in any) (*Hijacked, error) {
	resp, err := c.Do(ctx, Request{Method: http.MethodPost, Path: path, Query: q, Body: in, hijack: "tcp"})
	if err != nil {
		return nil, err
	}
	return &Hijacked{Conn: resp.conn.Conn, Reader: resp.conn.r, MediaType: resp.Header.Get("Content-Type")}, nil
}

// CloseWrite says that no more input follows; the engine's output goes on.
func (h *Hijacked) CloseWrite() error {
	if cw, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

// Close ends the connection.
func (h *Hijacked) Close() error { return h.Conn.Close() }
