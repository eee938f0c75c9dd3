package main

import (
	"context"
	"fmt"
	"io"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/driver/registry"
	"github.com/gantry-engine/gantry/internal/lazy"
	"github.com/gantry-engine/gantry/internal/lazyproto"
)

// open gives the way to the registry that a layer is in: the engine's own client of registries, with its mirrors,
// certificates and retries.
func open(ctx context.Context, l lazyproto.Layer, a lazyproto.Access) (lazy.Source, error) {
	named, err := reference.ParseNormalizedNamed(l.Image)
	if err != nil {
		return nil, fmt.Errorf("the image's name %q: %w", l.Image, err)
	}
	client, err := registry.New(registry.Config{
		Default: a.Default, Mirrors: a.Mirrors, Insecure: a.Insecure, CertDirs: a.CertDirs, Attempts: a.Attempts, UserAgent: a.UserAgent,
	}, nil)
	if err != nil {
		return nil, err
	}
	repo, err := client.Repository(ctx, named, a.Auth)
	if err != nil {
		return nil, err
	}
	return &source{repo, ocispec.Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size}}, nil
}

// source is one blob of a registry. It implements lazy.Source.
type source struct {
	repo *registry.Repository
	blob ocispec.Descriptor
}

func (s *source) Span(ctx context.Context, from, to int64) (io.ReadCloser, error) {
	return s.repo.Span(ctx, s.blob, from, to)
}

func (s *source) All(ctx context.Context) (io.ReadCloser, error) { return s.repo.Fetch(ctx, s.blob, 0) }
