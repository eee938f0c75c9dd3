package volumes

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/spec"
)

func wire(v spec.Volume) volume.Volume {
	w := volume.Volume{
		CreatedAt: v.Created.Format(time.RFC3339), Driver: v.Driver, Labels: v.Labels,
		Mountpoint: v.Mountpoint, Name: v.Name, Options: v.Options, Scope: "local",
	}
	return w
}

// Create finds or makes a volume, as POST /volumes/create asks.
func (s *Service) Create(ctx context.Context, req volume.CreateRequest) (volume.Volume, error) {
	if req.ClusterVolumeSpec != nil {
		return volume.Volume{}, classed.Errorf(errdefs.ErrUnavailable, "cluster volumes need a swarm: this node is not a swarm manager")
	}
	v, err := s.Ensure(ctx, req.Name, req.Driver, req.DriverOpts, req.Labels)
	if err != nil {
		return volume.Volume{}, err
	}
	return wire(v), nil
}

// Inspect shows one volume.
func (s *Service) Inspect(ctx context.Context, name string) (volume.Volume, error) {
	v, err := s.Get(ctx, name)
	if err != nil {
		return volume.Volume{}, err
	}
	return wire(v), nil
}

// List shows the volumes that fit the filters dangling, driver, label and name, in order of name.
func (s *Service) List(_ context.Context, args filters.Args) (volume.ListResponse, error) {
	out := volume.ListResponse{Volumes: []volume.Volume{}, Warnings: []string{}}
	if err := args.Check("dangling", "driver", "label", "name"); err != nil {
		return out, err
	}
	dangling, err := args.Bool("dangling", false)
	if err != nil {
		return out, err
	}
	for _, v := range s.sorted() {
		if args.Has("dangling") && dangling == (len(s.users(v.Name)) > 0) {
			continue
		}
		if args.Exact("driver", v.Driver) && args.Labels("label", v.Labels) && args.Match("name", v.Name) {
			out.Volumes = append(out.Volumes, wire(v))
		}
	}
	return out, nil
}

func (s *Service) sorted() []spec.Volume {
	s.mu.RLock()
	out := make([]spec.Volume, 0, len(s.volumes))
	for _, e := range s.volumes {
		out = append(out, e.vol)
	}
	s.mu.RUnlock()
	slices.SortFunc(out, func(a, b spec.Volume) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Usage lists all volumes with what they take on disk, for system df.
func (s *Service) Usage(ctx context.Context) ([]volume.Volume, error) {
	out := []volume.Volume{}
	for _, v := range s.sorted() {
		w := wire(v)
		size, err := s.content.Size(ctx, v.Name)
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			size = -1
		}
		w.UsageData = &volume.UsageData{RefCount: int64(len(s.users(v.Name))), Size: size}
		out = append(out, w)
	}
	return out, nil
}

// Prune removes unused volumes: anonymous ones, or all of them with the filter
// all=true; label and label! narrow it down.
func (s *Service) Prune(ctx context.Context, args filters.Args) (volume.PruneReport, error) {
	rep := volume.PruneReport{VolumesDeleted: []string{}}
	if err := args.Check("all", "label", "label!"); err != nil {
		return rep, err
	}
	all, err := args.Bool("all", false)
	if err != nil {
		return rep, err
	}
	for _, v := range s.sorted() {
		_, anonymous := v.Labels[AnonymousLabel]
		if !all && !anonymous || !args.Labels("label", v.Labels) || !args.NoLabels("label!", v.Labels) {
			continue
		}
		if _, err := s.usable(v.Name); err != nil || len(s.users(v.Name)) > 0 { // a damaged one goes only when asked for by name
			continue
		}
		size, _ := s.content.Size(ctx, v.Name)
		if err := s.Remove(ctx, v.Name, true); err != nil {
			if errdefs.IsConflict(err) { // taken meanwhile
				continue
			}
			return rep, err
		}
		rep.VolumesDeleted = append(rep.VolumesDeleted, v.Name)
		rep.SpaceReclaimed += uint64(max(size, 0))
	}
	s.events.Publish(events.Message{Type: events.VolumeEventType, Action: events.ActionPrune,
		Actor: events.Actor{Attributes: map[string]string{"reclaimed": strconv.FormatUint(rep.SpaceReclaimed, 10)}}})
	return rep, nil
}
