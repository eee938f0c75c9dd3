package api

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
)

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

// payload is the request's body: encoded, or as the stream that it is.
func (req Request) payload() (encoded []byte, stream io.Reader, err error) {
	if req.Body == nil {
		return nil, nil, nil
	}
	if stream, ok := req.Body.(io.Reader); ok {
		return nil, stream, nil
	}
	encoded, err = encode(req.Body)
	return encoded, nil, err
}

// build makes the request for HTTP; one of payload and stream is its body, or neither.
func (req Request) build(cfg *Config, version string, payload []byte, stream io.Reader) (*http.Request, error) {
	p := cfg.BasePath
	if !req.Raw {
		p += "/v" + version
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
	if cfg.HostHeader != "" {
		hr.Host = cfg.HostHeader
	} else {
		hr.Host = "api.moby.localhost"
	}
	for k, v := range cfg.Headers {
		hr.Header.Set(k, v)
	}
	hr.Header.Set("User-Agent", cfg.UserAgent)
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
