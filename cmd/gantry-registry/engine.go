//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/registryserver/fromengine"
)

// engine is an engine as its API shows it.
type engine struct {
	base string
	http *http.Client
}

// maxList bounds a list of images, in bytes.
const maxList = 64 << 20

// dialEngine makes the way to an engine: unix:///path, tcp://host:port or http://host:port.
func dialEngine(address string) (*engine, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("the engine's address %q: %w", address, err)
	}
	t := &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute}
	e := &engine{base: "http://engine", http: &http.Client{Transport: t}}
	switch u.Scheme {
	case "unix":
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", u.Path)
		}
	case "tcp", "http":
		e.base = "http://" + u.Host
	default:
		return nil, fmt.Errorf("the engine's address %q: unix:///path or tcp://host:port is needed: %w", address, errdefs.ErrInvalidArgument)
	}
	return e, nil
}

func toEngine(address string) (fromengine.Engine, error) { return dialEngine(address) }

func (e *engine) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.base+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var body struct{ Message string }
	_ = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&body)
	var class error = errdefs.ErrUnavailable
	if resp.StatusCode == http.StatusNotFound {
		class = errdefs.ErrNotFound
	}
	return nil, fmt.Errorf("the engine answered %s: %s: %w", resp.Status, body.Message, class)
}

func (e *engine) decode(ctx context.Context, path string, to any) error {
	body, err := e.get(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(io.LimitReader(body, maxList)).Decode(to)
}

// Names implements fromengine.Engine.
func (e *engine) Names(ctx context.Context) (names []string, err error) {
	var list []struct{ RepoTags []string }
	if err := e.decode(ctx, "/images/json", &list); err != nil {
		return nil, err
	}
	for _, i := range list {
		for _, n := range i.RepoTags {
			if !strings.HasPrefix(n, "<none>") {
				names = append(names, n)
			}
		}
	}
	return names, nil
}

// ID implements fromengine.Engine.
func (e *engine) ID(ctx context.Context, name string) (string, error) {
	var image struct{ ID string }
	err := e.decode(ctx, "/images/"+name+"/json", &image)
	return image.ID, err
}

// Export implements fromengine.Engine.
func (e *engine) Export(ctx context.Context, name string) (io.ReadCloser, error) {
	return e.get(ctx, "/images/"+name+"/get")
}
