package images

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/containerd/platforms"
)

// Deps are the service's ports. Containers may be nil until SetContainers; Log and Events may be nil.
type Deps struct {
	Content    Content
	Layers     Layers
	Containers Containers
	Events     Events
	Log        *slog.Logger
}

// Service is the image store as the API sees it.
type Service struct {
	*resolver
	*querier
	*accountant

	*blobs
	catalog  *catalog
	users    *users
	announce announcer
	log      *slog.Logger
}

// New opens the image store: it reads all images into memory and sweeps what a crash left behind.
func New(ctx context.Context, d Deps) (*Service, error) {
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	store := &blobs{d.Content, d.Layers}
	c := &catalog{content: d.Content, layers: d.Layers, host: host{platforms.Default()}, log: log}
	u := &users{d.Containers}
	s := &Service{
		resolver: &resolver{c, store}, querier: &querier{c, u, sizes{d.Layers}},
		blobs: store, catalog: c, users: u, announce: announcer{d.Events}, log: log,
	}
	s.accountant = &accountant{s.querier}
	if err := s.catalog.reload(ctx); err != nil {
		return nil, fmt.Errorf("reading the images: %w", err)
	}
	s.catalog.sweep(ctx)
	return s, nil
}

// SetContainers fills the port that can only exist after this service. It is called once, before the first request.
func (s *Service) SetContainers(c Containers) { s.users.containers = c }
