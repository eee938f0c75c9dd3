package registry

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// Login tries credentials, and gives the identity token that stands for them if the registry gives one.
func (c *Client) Login(ctx context.Context, auth registry.AuthConfig) (identityToken string, err error) {
	cfg := c.cfg.Load()
	host := cfg.host(ServerHost(auth.ServerAddress))
	hosts, err := cfg.configured(ctx, host, "", auth)
	if err != nil {
		return "", err
	}
	h := &hosts[len(hosts)-1]
	r := &Repository{hosts: hosts, exchange: &exchange{userAgent: cfg.UserAgent, attempts: 2, log: c.log, sleep: c.sleep}}
	defer r.Close()
	if auth.RegistryToken == "" {
		known := func(string) (string, string, error) {
			if auth.IdentityToken != "" {
				return "", auth.IdentityToken, nil
			}
			return credentials(auth)
		}
		h.Authorizer = authorize(h, known, docker.WithFetchRefreshToken(func(_ context.Context, token string, _ *http.Request) { identityToken = token }))
	}
	resp, err := r.do(ctx, h, request{method: http.MethodGet, path: "/"})
	if err != nil {
		var u unauthorized
		if errors.As(err, &u) {
			return "", classed.Errorf(errdefs.ErrUnauthenticated, "Get \"%s://%s%s/\": unauthorized: incorrect username or password (%v)", h.Scheme, h.Host, h.Path, u.error)
		}
		return "", err
	}
	if resp.StatusCode == http.StatusOK {
		drain(resp)
		return identityToken, nil
	}
	f := refused(resp)
	if f.status == http.StatusUnauthorized || f.status == http.StatusForbidden {
		return "", classed.Errorf(errdefs.ErrUnauthenticated, "login attempt to %s://%s%s/ failed with status: %s", h.Scheme, h.Host, h.Path, resp.Status)
	}
	return "", classed.Errorf(f.class(), "%w", f)
}

// ServerHost is the host that a server address of a configuration file means: a host, or a URL as Docker Hub's https://index.docker.io/v1/.
func ServerHost(address string) string {
	s := strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://")
	s, _, _ = strings.Cut(s, "/")
	if s == "" || s == "index.docker.io" || s == hubHost {
		return Hub
	}
	return s
}
