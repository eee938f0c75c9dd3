package registry

import (
	"context"
	"errors"
	"net/http"

	"github.com/containerd/containerd/v2/core/remotes/docker"
)

// authorizer is containerd's authorizer for one host, as several transfers at a time need it. That one keeps a failure to
// get a token for ever, be it that the token server was busy or that the transfer was cancelled which asked first; and
// it reads what another one writes. So one request asks at a time, and after a failure that may pass it is made anew.
type authorizer struct {
	make  func() docker.Authorizer
	turn  chan struct{} // holds one while somebody asks
	inner docker.Authorizer
}

// authorize makes the authorizer of a host.
func authorize(h *docker.RegistryHost, credentials func(host string) (string, string, error), more ...docker.AuthorizerOpt) docker.Authorizer {
	opts := append([]docker.AuthorizerOpt{docker.WithAuthClient(h.Client), docker.WithAuthHeader(h.Header), docker.WithAuthCreds(credentials)}, more...)
	a := &authorizer{make: func() docker.Authorizer { return docker.NewDockerAuthorizer(opts...) }, turn: make(chan struct{}, 1)}
	a.inner = a.make()
	return a
}

// Authorize adds what the host is known to want to a request.
func (a *authorizer) Authorize(ctx context.Context, req *http.Request) error {
	if err := a.begin(ctx); err != nil {
		return err
	}
	defer a.end()
	err := a.inner.Authorize(ctx, req)
	if err != nil && !errors.As(denial(err), new(unauthorized)) {
		a.inner = a.make()
	}
	return err
}

// AddResponses learns from a refusal what the host wants.
func (a *authorizer) AddResponses(ctx context.Context, answers []*http.Response) error {
	if err := a.begin(ctx); err != nil {
		return err
	}
	defer a.end()
	return a.inner.AddResponses(ctx, answers)
}

func (a *authorizer) begin(ctx context.Context) error {
	select {
	case a.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *authorizer) end() { <-a.turn }
