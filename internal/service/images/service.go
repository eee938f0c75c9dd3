package images

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/spec"
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
	*blobs
	catalog  *catalog
	users    *users
	announce announcer
	log      *slog.Logger
	host     platforms.MatchComparer
}

// New opens the image store: it reads all images into memory and sweeps what a crash left behind.
func New(ctx context.Context, d Deps) (*Service, error) {
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		blobs: &blobs{d.Content, d.Layers}, catalog: &catalog{content: d.Content, layers: d.Layers, log: log},
		users: &users{d.Containers}, announce: announcer{d.Events}, log: log, host: platforms.Default(),
	}
	if err := s.catalog.reload(ctx); err != nil {
		return nil, fmt.Errorf("reading the images: %w", err)
	}
	s.catalog.sweep(ctx)
	return s, nil
}

// SetContainers fills the port that can only exist after this service. It is called once, before the first request.
func (s *Service) SetContainers(c Containers) { s.users.containers = c }

// Resolve finds an unpacked image. It implements containers.Images.
func (s *Service) Resolve(ctx context.Context, ref string, platform *ocispec.Platform) (spec.Image, error) {
	e, name, err := s.catalog.find(ref)
	if err != nil {
		return spec.Image{}, err
	}
	m, err := s.choose(e, ref, platform)
	if err != nil {
		return spec.Image{}, err
	}
	if _, ok := s.layers.Unpacked(m.image.RootFS.DiffIDs); !ok {
		// Only after an image of another platform was loaded, or by a loss on disk.
		release, err := s.unpack(ctx, m)
		if err != nil {
			return spec.Image{}, fmt.Errorf("unpacking image %s: %w", ref, err)
		}
		release()
	}
	img := spec.Image{
		ID: e.target.Digest, Manifest: m.desc.Digest, MediaType: m.desc.MediaType, Size: m.desc.Size, Config: m.config.Digest, Name: name,
		Platform: m.image.Platform, Runtime: m.image.Config, DiffIDs: m.image.RootFS.DiffIDs,
	}
	if m.image.Created != nil {
		img.Created = *m.image.Created
	}
	return img, nil
}

// Exists implements containers.Images.
func (s *Service) Exists(_ context.Context, id string) bool {
	return s.catalog.byDigest(digest.Digest(id)) != nil
}
