package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// Bounds are how long and how much plugins may say.
type Bounds struct {
	Call    time.Duration // for one answer
	Connect time.Duration // a plugin that does not listen yet is tried again for so long, as Docker does
	Answer  int64         // bytes of one answer
}

// Usual are the bounds outside tests.
var Usual = Bounds{Call: 30 * time.Second, Connect: 15 * time.Second, Answer: 1 << 20}

// media is the protocol's content type.
const media = "application/vnd.docker.plugins.v1.2+json"

// ErrNotImplemented says that a plugin does not know a method: it answered 404.
var ErrNotImplemented = errors.New("the plugin does not know this method")

// Plugin is one by its name. It is looked for anew for every call, as it may have been restarted elsewhere. It keeps no
// connection open.
type Plugin struct {
	Name    string
	folders Folders
	bounds  Bounds

	mu         sync.Mutex
	implements []string // nil until it has been asked
}

// New makes a plugin of a name; nothing is asked of it.
func New(name string, folders Folders, bounds Bounds) *Plugin {
	return &Plugin{Name: name, folders: folders, bounds: bounds}
}

// Activate asks a plugin what it is. errdefs.ErrNotFound if there is none of the name, or it does not implement what is wanted.
func (p *Plugin) Activate(ctx context.Context, wanted string) error {
	p.mu.Lock()
	known := p.implements
	p.mu.Unlock()
	if known == nil {
		var manifest struct{ Implements []string }
		if err := p.Call(ctx, "Plugin.Activate", nil, &manifest); err != nil {
			return err
		}
		known = append([]string{}, manifest.Implements...)
		p.mu.Lock()
		p.implements = known
		p.mu.Unlock()
	}
	if !slices.Contains(known, wanted) {
		return fmt.Errorf("plugin %s does not implement %s, it implements %s: %w", p.Name, wanted, strings.Join(known, ", "), errdefs.ErrNotFound)
	}
	return nil
}

// Call asks a plugin for something: in is encoded as JSON, the answer is decoded into out (nil drops it). What the plugin
// says is wrong is an error, of the class errdefs.ErrInternal.
func (p *Plugin) Call(ctx context.Context, method string, in, out any) error {
	err := p.call(ctx, method, in, out)
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return err
	}
	return fmt.Errorf("plugin %s: %s: %w", p.Name, method, err)
}

func (p *Plugin) call(ctx context.Context, method string, in, out any) error {
	at, err := p.folders.find(p.Name)
	if err != nil {
		return err
	}
	body := []byte("{}")
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.bounds.Call, fmt.Errorf("no answer within %s: %w", p.bounds.Call, errdefs.ErrUnavailable))
	defer cancel()
	answer, err := p.post(ctx, at, method, body)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return err
	}
	var said struct{ Err string }
	if err := json.Unmarshal(answer, &said); err != nil {
		return fmt.Errorf("the answer is not JSON of the protocol: %w: %w", err, errdefs.ErrInternal)
	}
	if said.Err != "" {
		return fmt.Errorf("%s: %w", said.Err, errdefs.ErrInternal)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the answer is not of the protocol: %w: %w", err, errdefs.ErrInternal)
	}
	return nil
}

// post sends one request and reads its answer. While nobody listens it is sent again.
func (p *Plugin) post(ctx context.Context, at address, method string, body []byte) ([]byte, error) {
	scheme := "http"
	if at.tls != nil {
		scheme = "https"
	}
	client := http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, at.network, at.target)
			},
			TLSClientConfig: at.tls, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	host := "plugin" // a socket has none
	if at.network == "tcp" {
		host = at.target
	}
	began, pause := time.Now(), 50*time.Millisecond
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+host+"/"+method, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", media)
		req.Header.Set("Content-Type", media)
		answer, err := client.Do(req)
		if err == nil {
			return p.read(answer)
		}
		var dial *net.OpError
		if !errors.As(err, &dial) || dial.Op != "dial" || time.Since(began)+pause > p.bounds.Connect {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Second)
	}
}

// read reads an answer, no more of it than allowed.
func (p *Plugin) read(answer *http.Response) ([]byte, error) {
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, p.bounds.Answer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the answer: %w: %w", err, errdefs.ErrUnavailable)
	case int64(len(text)) > p.bounds.Answer:
		return nil, fmt.Errorf("the answer is larger than %d bytes: %w", p.bounds.Answer, errdefs.ErrInternal)
	case answer.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%w: %w", ErrNotImplemented, errdefs.ErrNotImplemented)
	case answer.StatusCode != http.StatusOK:
		var said struct{ Err string }
		if json.Unmarshal(text, &said) != nil || said.Err == "" {
			said.Err = strings.TrimSpace(string(text[:min(len(text), 1024)]))
		}
		return nil, fmt.Errorf("status %d: %s: %w", answer.StatusCode, said.Err, errdefs.ErrInternal)
	}
	return text, nil
}
