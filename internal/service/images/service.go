package images

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/events"
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
	containers Containers
	events     Events
	log        *slog.Logger
	host       platforms.MatchComparer

	write sync.Mutex // serialises changes of names
	idx   index
}

// New opens the image store: it reads all images into memory and sweeps what a crash left behind.
func New(ctx context.Context, d Deps) (*Service, error) {
	s := &Service{blobs: &blobs{d.Content, d.Layers}, containers: d.Containers, events: d.Events, log: d.Log, host: platforms.Default()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.reload(ctx); err != nil {
		return nil, fmt.Errorf("reading the images: %w", err)
	}
	s.sweep(ctx)
	return s, nil
}

// SetContainers fills the port that can only exist after this service. It is called once, before the first request.
func (s *Service) SetContainers(c Containers) { s.containers = c }

// Resolve finds an unpacked image. It implements containers.Images.
func (s *Service) Resolve(ctx context.Context, ref string, platform *ocispec.Platform) (spec.Image, error) {
	e, name, err := s.idx.find(ref)
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
	return s.idx.byDigest(digest.Digest(id)) != nil
}

// choose takes the manifest for a platform; without one, the host's or else the first that is whole.
func (s *Service) choose(e *entry, ref string, platform *ocispec.Platform) (*manifest, error) {
	match := s.host
	if platform != nil {
		match = platforms.OnlyStrict(platforms.Normalize(*platform))
	}
	var best, any *manifest
	for _, m := range e.manifests {
		if !m.available || m.kind != kindImage {
			continue
		}
		if any == nil {
			any = m
		}
		if match.Match(m.image.Platform) && (best == nil || match.Less(m.image.Platform, best.image.Platform)) {
			best = m
		}
	}
	switch {
	case best != nil:
		return best, nil
	case platform != nil:
		return nil, fmt.Errorf("image with reference %s was found but does not provide the specified platform (%s): %w", ref, platforms.FormatAll(*platform), errdefs.ErrNotFound)
	case any != nil:
		return any, nil
	}
	return nil, fmt.Errorf("image with reference %s was found but its content is not complete: %w", ref, errdefs.ErrNotFound)
}

// sweep deletes blobs and layers that no image leads to. A failure is logged: it costs disk space, nothing else.
// Names do not change meanwhile: an image that is being made is either held (leases, Unpack's release) or in the index.
func (s *Service) sweep(ctx context.Context) {
	s.write.Lock()
	defer s.write.Unlock()
	ctx = context.WithoutCancel(ctx)
	_, err := s.layers.Collect(ctx, s.idx.chains())
	if err = errors.Join(err, s.content.Collect(ctx)); err != nil {
		s.log.Error("collecting what no image uses", "error", err)
	}
}

func (s *Service) publish(id digest.Digest, name string, action events.Action, labels map[string]string) {
	if s.events == nil {
		return
	}
	attrs := map[string]string{}
	maps.Copy(attrs, labels)
	attrs["name"] = name
	now := time.Now()
	s.events.Publish(events.Message{
		Type: events.ImageEventType, Action: action, Actor: events.Actor{ID: id.String(), Attributes: attrs},
		Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano(),
	})
}

func (s *Service) uses(ctx context.Context) []ContainerUse {
	if s.containers == nil {
		return nil
	}
	return s.containers.Uses(ctx)
}
