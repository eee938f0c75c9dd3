package system

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sync/errgroup"

	"github.com/gantry-engine/gantry/internal/spec"
)

// Usage is what is on disk, with every object listed. A nil part was not asked for.
type Usage struct {
	system.DiskUsage
	LayersSize int64 // all layers, each once: the older API's total of images
}

// DiskUsage weighs the kinds asked for ("container", "image", "volume",
// "build-cache"); none means all.
func (s *Service) DiskUsage(ctx context.Context, kinds []string) (Usage, error) {
	want := map[system.DiskUsageObject]bool{}
	for _, k := range kinds {
		switch o := system.DiskUsageObject(k); o {
		case system.ContainerObject, system.ImageObject, system.VolumeObject, system.BuildCacheObject:
			want[o] = true
		default:
			return Usage{}, fmt.Errorf("unknown object type: %s: %w", k, errdefs.ErrInvalidArgument)
		}
	}
	all := len(want) == 0
	var u Usage
	g, ctx := errgroup.WithContext(ctx)
	if all || want[system.ContainerObject] {
		g.Go(func() (err error) { u.ContainerUsage, err = s.weighContainers(ctx); return err })
	}
	if all || want[system.ImageObject] {
		g.Go(func() (err error) { u.ImageUsage, u.LayersSize, err = s.weighImages(ctx); return err })
	}
	if all || want[system.VolumeObject] {
		g.Go(func() (err error) { u.VolumeUsage, err = s.weighVolumes(ctx); return err })
	}
	if all || want[system.BuildCacheObject] {
		u.BuildCacheUsage = &build.DiskUsage{Items: []build.CacheRecord{}}
	}
	return u, g.Wait()
}

// Disk accounts for every byte of the data root.
func (s *Service) Disk(ctx context.Context) (spec.DiskUse, error) {
	if s.ports.Disk == nil {
		return spec.DiskUse{}, fmt.Errorf("this engine does not measure its data root: %w", errdefs.ErrNotImplemented)
	}
	return s.ports.Disk.Measure(ctx)
}

func (s *Service) weighContainers(ctx context.Context) (*container.DiskUsage, error) {
	u := &container.DiskUsage{Items: []container.Summary{}}
	if s.ports.Containers == nil {
		return u, nil
	}
	items, err := s.ports.Containers.Usage(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range items {
		u.TotalCount++
		u.TotalSize += c.SizeRw
		switch c.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			u.ActiveCount++
		default:
			u.Reclaimable += c.SizeRw
		}
		u.Items = append(u.Items, c)
	}
	return u, nil
}

func (s *Service) weighImages(ctx context.Context) (*image.DiskUsage, int64, error) {
	u := &image.DiskUsage{Items: []image.Summary{}}
	if s.ports.Images == nil {
		return u, 0, nil
	}
	weighed, err := s.ports.Images.DiskUsage(ctx)
	if err != nil {
		return nil, 0, err
	}
	if weighed.Items == nil {
		weighed.Items = u.Items
	}
	return &weighed, weighed.TotalSize, nil
}

func (s *Service) weighVolumes(ctx context.Context) (*volume.DiskUsage, error) {
	u := &volume.DiskUsage{Items: []volume.Volume{}}
	if s.ports.Volumes == nil {
		return u, nil
	}
	items, err := s.ports.Volumes.Usage(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range items {
		u.TotalCount++
		if v.UsageData != nil {
			u.TotalSize += max(0, v.UsageData.Size)
			if v.UsageData.RefCount > 0 {
				u.ActiveCount++
			} else {
				u.Reclaimable += max(0, v.UsageData.Size)
			}
		}
		u.Items = append(u.Items, v)
	}
	return u, nil
}
