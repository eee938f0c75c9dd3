package registry

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
)

// Hub is Docker Hub's name, and hubHost where it answers.
const (
	Hub     = "docker.io"
	hubHost = "registry-1.docker.io"
)

func (cfg *Config) check() error {
	var errs []error
	if d := cfg.Default; d != "" {
		named, err := reference.ParseNormalizedNamed(d + "/name")
		host, _, _ := strings.Cut(d, "/")
		if err != nil || reference.Domain(named) != host || reference.Path(named) != strings.TrimPrefix(d[len(host):]+"/name", "/") {
			errs = append(errs, fmt.Errorf("default registry %q: a host is needed, such as registry.example.com, registry.example.com:5000 or registry.example.com/path: %w", d, errdefs.ErrInvalidArgument))
		}
	}
	for _, m := range cfg.Mirrors {
		if _, _, err := parseMirror(m); err != nil {
			errs = append(errs, err)
		}
	}
	for _, i := range cfg.Insecure {
		if strings.Contains(i, "://") {
			errs = append(errs, fmt.Errorf("insecure registry %q: a host, a host and port, or a range of addresses is needed, no URL: %w", i, errdefs.ErrInvalidArgument))
		}
	}
	return errors.Join(errs...)
}

// host is the registry that is meant by one.
func (cfg *Config) host(domain string) string {
	if domain != Hub || cfg.Default == "" {
		return domain
	}
	host, _, _ := strings.Cut(cfg.Default, "/")
	return host
}

// path is where in its registry a repository lies.
func (cfg *Config) path(domain, path string) string {
	if domain != Hub || cfg.Default == "" {
		return path
	}
	_, below, _ := strings.Cut(cfg.Default, "/")
	return strings.TrimPrefix(below+"/"+strings.TrimPrefix(path, "library/"), "/") // what Docker Hub alone has
}

// place is where a name's repository is asked for.
func (cfg *Config) place(name reference.Named) (host, path string) {
	domain := reference.Domain(name)
	return cfg.host(domain), cfg.path(domain, reference.Path(name))
}

// parseMirror reads "URL" or "host=URL".
func parseMirror(s string) (of string, u *url.URL, err error) {
	of = Hub
	if host, rest, ok := strings.Cut(s, "="); ok && !strings.Contains(host, "/") {
		of, s = host, rest
	}
	u, err = url.Parse(s)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https":
		return "", nil, fmt.Errorf("registry mirror %q: http://host or https://host is needed, for another registry than Docker Hub registry=https://host: %w", s, errdefs.ErrInvalidArgument)
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return "", nil, fmt.Errorf("registry mirror %q: a user, a query or a fragment has no meaning in it: %w", s, errdefs.ErrInvalidArgument)
	}
	return of, u, nil
}

// hosts are where a registry is asked: its mirrors, then itself. Credentials go to the registry only.
func (cfg *Config) hosts(ctx context.Context, domain string, auth registry.AuthConfig) ([]docker.RegistryHost, error) {
	var hosts []docker.RegistryHost
	for _, m := range cfg.Mirrors {
		of, u, err := parseMirror(m)
		if err != nil || of != domain {
			continue
		}
		found, err := cfg.configured(ctx, u.Host, u.Scheme, registry.AuthConfig{})
		if err != nil {
			return nil, err
		}
		h := found[len(found)-1]
		h.Path = strings.TrimRight(u.Path, "/") + "/v2"
		h.Capabilities = docker.HostCapabilityPull | docker.HostCapabilityResolve
		hosts = append(hosts, h)
	}
	own, err := cfg.configured(ctx, domain, "", auth)
	if err != nil {
		return nil, err
	}
	return append(hosts, own...), nil
}

// configured is a registry as the certs.d folders describe it; there it can have mirrors, too.
func (cfg *Config) configured(ctx context.Context, host, scheme string, auth registry.AuthConfig) ([]docker.RegistryHost, error) {
	transports := map[*http.Client]*http.Transport{}
	o := config.HostOptions{
		HostDir: func(h string) (string, error) {
			for _, root := range cfg.CertDirs {
				if dir, err := config.HostDirFromRoot(root)(h); err == nil {
					return dir, nil
				} else if !errdefs.IsNotFound(err) {
					return "", err
				}
			}
			return "", errdefs.ErrNotFound
		},
		DefaultScheme: scheme,
		Credentials: func(asked string) (string, string, error) {
			if asked != host && !(host == Hub && asked == hubHost) {
				return "", "", nil
			}
			if auth.IdentityToken != "" {
				return "", auth.IdentityToken, nil
			}
			return credentials(auth)
		},
		UpdateClient: func(c *http.Client) error {
			t, ok := c.Transport.(*http.Transport)
			if ok {
				t.MaxIdleConnsPerHost = 16
				t.ForceAttemptHTTP2 = true
				t.WriteBufferSize, t.ReadBufferSize = 64<<10, 64<<10
				transports[c] = t
			}
			c.CheckRedirect = limitRedirects
			return nil
		},
	}
	if scheme != "http" && cfg.insecure(host) {
		o.DefaultTLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // asked for by the operator, for this host
		if scheme == "" {
			o.DefaultScheme = "http" // after https did not work
		}
	}
	hosts, err := config.ConfigureHosts(ctx, o)(host)
	if err != nil {
		return nil, fmt.Errorf("the configuration of registry %s: %w", host, err)
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("the configuration of registry %s names no host: %w", host, errdefs.ErrFailedPrecondition)
	}
	for i := range hosts {
		c := hosts[i].Client
		if t, ok := transports[c]; ok && c.Transport != http.RoundTripper(t) {
			c.Transport = closing{c.Transport, t}
		}
		hosts[i].Authorizer = authorize(&hosts[i], o.Credentials)
		if auth.RegistryToken != "" {
			hosts[i].Authorizer = bearer{host: hosts[len(hosts)-1].Host, token: auth.RegistryToken}
		}
	}
	return hosts, nil
}

// closing gives idle connections back: containerd's way from TLS to plain HTTP hides the transport that has them.
type closing struct {
	http.RoundTripper
	inner *http.Transport
}

func (c closing) CloseIdleConnections() { c.inner.CloseIdleConnections() }

func credentials(auth registry.AuthConfig) (user, secret string, err error) {
	if auth.Username == "" && auth.Auth != "" {
		raw, err := base64.StdEncoding.DecodeString(auth.Auth)
		user, secret, ok := strings.Cut(string(raw), ":")
		if err != nil || !ok {
			return "", "", fmt.Errorf("the credentials in the field auth are not base64 of user:password: %w", errdefs.ErrInvalidArgument)
		}
		return user, secret, nil
	}
	return auth.Username, auth.Password, nil
}

// limitRedirects stops a registry that sends its clients in circles.
func limitRedirects(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return fmt.Errorf("%s redirects again and again, last to %s", via[0].URL.Host, req.URL.Redacted())
	}
	return nil
}

// bearer authorizes with a token that the client brought, at the registry only: neither mirrors nor hosts that an upload
// is sent on to get to see it.
type bearer struct{ host, token string }

func (b bearer) Authorize(_ context.Context, req *http.Request) error {
	if req.URL.Host == b.host {
		req.Header.Set("Authorization", "Bearer "+b.token)
	}
	return nil
}

func (b bearer) AddResponses(context.Context, []*http.Response) error {
	return docker.ErrInvalidAuthorization
}

// insecure tells whether a host may have any certificate, or none. Hosts of this machine may: containerd's package sees to it.
func (cfg *Config) insecure(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]") // an address of IPv6 without a port
	}
	var addrs []netip.Addr
	for _, i := range cfg.Insecure {
		if i == host || i == name {
			return true
		}
		p, err := netip.ParsePrefix(i)
		if err != nil {
			continue
		}
		if addrs == nil {
			addrs = addressesOf(name)
		}
		for _, a := range addrs {
			if p.Contains(a) {
				return true
			}
		}
	}
	return false
}

func addressesOf(name string) []netip.Addr {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	ips, err := net.LookupIP(name)
	if err != nil {
		return []netip.Addr{}
	}
	out := []netip.Addr{}
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip); ok {
			out = append(out, a.Unmap())
		}
	}
	return out
}
