package registry

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"

	"github.com/gantry-engine/gantry/internal/service/images"
)

// Config says how registries are reached. It may be changed while the engine runs.
type Config struct {
	// Default is asked in the place of Docker Hub: a host, with a port or a path below which its repositories lie; "" is Docker Hub.
	Default string
	// Mirrors are asked before a registry: a URL mirrors Docker Hub, "host=URL" another registry.
	Mirrors []string
	// Insecure are hosts (host, host:port, or a range of addresses) whose certificates are not checked, or that speak plain HTTP.
	Insecure []string
	// CertDirs are certs.d folders, the first one that knows a host counts.
	CertDirs []string
	// Attempts bounds how often a transfer is taken up again without progress; 0 means 5.
	Attempts int
	// UserAgent is sent with each request.
	UserAgent string
}

// Client reaches registries.
type Client struct {
	cfg   atomic.Pointer[Config]
	log   *slog.Logger
	sleep func(context.Context, time.Duration) error // between attempts; tests do not wait
}

// New makes a client. log may be nil.
func New(cfg Config, log *slog.Logger) (*Client, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Client{log: log, sleep: sleep}
	return c, c.Configure(cfg)
}

// Configure changes how registries are reached from now on; what is under way goes on as it began.
func (c *Client) Configure(cfg Config) error {
	if cfg.Attempts <= 0 {
		cfg.Attempts = 5
	}
	if err := cfg.check(); err != nil {
		return err
	}
	c.cfg.Store(&cfg)
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Open gives the repository that a name is in, as seen by one user. It asks nothing of a registry yet. The repository has to be closed.
func (c *Client) Open(ctx context.Context, name reference.Named, auth registry.AuthConfig) (images.Repository, error) {
	return c.Repository(ctx, name, auth)
}

// Repository is Open for callers that need more than a service does.
func (c *Client) Repository(ctx context.Context, name reference.Named, auth registry.AuthConfig) (*Repository, error) {
	cfg := c.cfg.Load()
	domain, path := cfg.place(name)
	hosts, err := cfg.hosts(ctx, domain, auth)
	if err != nil {
		return nil, err
	}
	return &Repository{
		name: path, familiar: reference.FamiliarName(name), hosts: hosts,
		exchange: &exchange{userAgent: cfg.UserAgent, attempts: cfg.Attempts, log: c.log, sleep: c.sleep},
		below:    func(path string) string { return cfg.path(reference.Domain(name), path) },
	}, nil
}

// Repository is one repository of a registry, as seen by one user.
type Repository struct {
	*exchange
	name     string // below its hosts
	familiar string
	below    func(path string) string // the name of another repository of the registry, as here
	hosts    []docker.RegistryHost    // in the order in which they are asked
}

// Close gives the connections back.
func (r *Repository) Close() {
	seen := map[*http.Client]bool{}
	for _, h := range r.hosts {
		if !seen[h.Client] {
			seen[h.Client] = true
			h.Client.CloseIdleConnections()
		}
	}
}

// with are the hosts that can do something.
func (r *Repository) with(c docker.HostCapabilities) (out []*docker.RegistryHost) {
	for i := range r.hosts {
		if r.hosts[i].Capabilities.Has(c) {
			out = append(out, &r.hosts[i])
		}
	}
	return out
}

// registry is the host of the registry itself.
func (r *Repository) registry() *docker.RegistryHost { return &r.hosts[len(r.hosts)-1] }

// pulling and pushing say what a token is needed for.
func (r *Repository) pulling(ctx context.Context) context.Context {
	return docker.WithScope(ctx, "repository:"+r.name+":pull")
}

func (r *Repository) pushing(ctx context.Context) context.Context {
	return docker.WithScope(ctx, "repository:"+r.name+":pull,push")
}
