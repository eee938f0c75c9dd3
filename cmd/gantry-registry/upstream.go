//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/distribution/reference"
	regtypes "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/driver/registry"
	"github.com/gantry-engine/gantry/internal/registryserver/cache"
	"github.com/gantry-engine/gantry/internal/registryserver/settings"
	"github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/version"
)

// certDirs are where the engine looks for certificates of registries, too.
var certDirs = []string{"/etc/gantry/certs.d", "/etc/docker/certs.d"}

// upstream is another registry, reached by the engine's own client.
type upstream struct {
	host   string
	client *registry.Client
	auth   regtypes.AuthConfig
}

// dial makes the way to a registry of the configuration. Nothing is asked yet.
func dial(log *slog.Logger) func(settings.Upstream) (cache.Upstream, error) {
	return func(u settings.Upstream) (cache.Upstream, error) {
		cfg := registry.Config{CertDirs: certDirs, UserAgent: "gantry-registry/" + version.Version}
		if u.Insecure {
			cfg.Insecure = []string{u.Registry}
		}
		client, err := registry.New(cfg, log)
		if err != nil {
			return nil, err
		}
		up := &upstream{host: u.Registry, client: client}
		if u.Username != "" {
			b, err := os.ReadFile(u.PasswordFile)
			if err != nil {
				return nil, fmt.Errorf("the password: %w", err)
			}
			up.auth = regtypes.AuthConfig{Username: u.Username, Password: strings.TrimRight(string(b), "\r\n"), ServerAddress: u.Registry}
		}
		return up, nil
	}
}

func (u *upstream) open(ctx context.Context, repo string) (images.Repository, error) {
	named, err := reference.ParseNormalizedNamed(u.host + "/" + repo)
	if err != nil {
		return nil, err
	}
	return u.client.Open(ctx, named, u.auth)
}

// Resolve implements cache.Upstream.
func (u *upstream) Resolve(ctx context.Context, repo, ref string) (d ocispec.Descriptor, err error) {
	r, err := u.open(ctx, repo)
	if err != nil {
		return d, err
	}
	defer r.Close()
	return r.Resolve(ctx, ref)
}

// Fetch implements cache.Upstream.
func (u *upstream) Fetch(ctx context.Context, repo string, d ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := u.open(ctx, repo)
	if err != nil {
		return nil, err
	}
	body, err := r.Fetch(ctx, d, 0)
	if err != nil {
		r.Close()
		return nil, err
	}
	return &transfer{body, r}, nil
}

// transfer closes its repository with it.
type transfer struct {
	io.ReadCloser
	r images.Repository
}

func (t *transfer) Close() error {
	err := t.ReadCloser.Close()
	t.r.Close()
	return err
}

// Tags implements cache.Upstream.
func (u *upstream) Tags(ctx context.Context, repo string) ([]string, error) {
	r, err := u.open(ctx, repo)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.Tags(ctx)
}
