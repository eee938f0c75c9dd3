package containers

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/service/containers/mounts"
	"github.com/gantry-engine/gantry/internal/service/containers/names"
	"github.com/gantry-engine/gantry/internal/spec"
)

// mountPlanner turns -v, --mount, --tmpfs, --volumes-from and the image's VOLUMEs
// into mount points, making volumes on the way.
type mountPlanner struct {
	*core
	rec  *Container
	root spec.Rootfs
	undo *undo.Stack
	have map[string]mounts.Point // by destination
}

// anonymousLabel is what tells an anonymous volume from others, as Docker has it.
const anonymousLabel = "com.docker.volume.anonymous"

// plan gives all mount points in order of destination. Later sources override earlier
// ones as in Docker: volumes-from, then -v, then --mount; an image's VOLUME only fills a gap.
func (p *mountPlanner) plan(ctx context.Context) ([]mounts.Point, error) {
	p.have = map[string]mounts.Point{}
	hc := p.rec.HostConfig
	for _, f := range hc.VolumesFrom {
		if err := p.from(f); err != nil {
			return nil, err
		}
	}
	own := map[string]bool{}
	add := func(m mounts.Point) error {
		if own[m.Destination] {
			return classed.Invalid("Duplicate mount point: %s", m.Destination)
		}
		if strings.Contains(m.Source+m.Destination+m.Subpath, "\x00") {
			return classed.Invalid("invalid mount of %q at %q: a path has a zero byte", m.Source, m.Destination)
		}
		own[m.Destination] = true
		p.have[m.Destination] = m
		return nil
	}
	for _, b := range hc.Binds {
		m, err := mounts.ParseBind(b)
		if err == nil {
			err = add(m)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, cfg := range hc.Mounts {
		m, err := mounts.Parse(cfg)
		if err == nil {
			err = add(m)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, dst := range slices.Sorted(maps.Keys(hc.Tmpfs)) {
		m, err := mounts.ParseTmpfs(dst, hc.Tmpfs[dst])
		if err == nil {
			err = add(m)
		}
		if err != nil {
			return nil, err
		}
	}
	for v := range p.rec.Config.Volumes {
		dst := path.Clean("/" + v)
		if _, taken := p.have[dst]; !taken && dst != "/" {
			p.have[dst] = mounts.Point{MountPoint: container.MountPoint{Type: mount.TypeVolume, Destination: dst, RW: true}, Anonymous: true, FromImage: true}
		}
	}
	out := make([]mounts.Point, 0, len(p.have))
	for _, dst := range slices.Sorted(maps.Keys(p.have)) {
		m := p.have[dst]
		if m.Type == mount.TypeVolume {
			if err := p.volume(ctx, &m); err != nil {
				return nil, err
			}
		}
		out = append(out, m)
	}
	return out, nil
}

// volume makes or finds the volume of a mount point and fills a new one from the image.
func (p *mountPlanner) volume(ctx context.Context, m *mounts.Point) error {
	var opts, labels map[string]string
	for _, cfg := range p.rec.HostConfig.Mounts {
		if path.Clean(cfg.Target) == m.Destination && cfg.VolumeOptions != nil {
			labels = cfg.VolumeOptions.Labels
			if d := cfg.VolumeOptions.DriverConfig; d != nil {
				opts = d.Options
			}
		}
	}
	anonymous := m.Name == ""
	if m.Driver == "" {
		m.Driver = "local"
	}
	name := m.Name
	if anonymous { // named here, so that it can be noted before it is there
		name = names.NewID()
		labels = maps.Clone(labels)
		if labels == nil {
			labels = map[string]string{}
		}
		labels[anonymousLabel] = ""
		if err := p.unfinished.Begin(p.rec.ID, name); err != nil {
			return err
		}
		if p.rec.Volatile {
			if err := p.owners.Set(name, p.rec.ID); err != nil {
				return fmt.Errorf("noting an anonymous volume: %w", err)
			}
			p.undo.Push("note of the volume", func(context.Context) error { return p.owners.Drop(name) })
		}
	}
	v, err := p.Volumes.Ensure(ctx, name, m.Driver, opts, labels)
	if errdefs.IsNotFound(err) { // a driver that is not there; clients would look for the image
		return classed.Invalid("%v", err)
	}
	if err != nil {
		return err
	}
	m.Name, m.Source, m.Driver = v.Name, v.Mountpoint, v.Driver
	if m.Mode == "" && m.Driver == "local" && !m.FromImage {
		m.Mode = "z" // what inspect has always shown
	}
	m.Anonymous = m.Anonymous || anonymous
	if anonymous {
		p.undo.Push("anonymous volume", func(ctx context.Context) error { return p.Volumes.Remove(ctx, v.Name, true) })
	}
	if _, err := p.Volumes.Acquire(ctx, v.Name, p.rec.ID); err != nil {
		return err
	}
	p.undo.Push("hold on volume", func(ctx context.Context) error { return p.Volumes.Release(ctx, v.Name, p.rec.ID) })
	if m.NoCopy {
		return nil
	}
	return p.Volumes.Populate(ctx, v.Name, p.root, m.Destination)
}

// from takes over the mount points of another container (--volumes-from name[:ro|rw|…]).
func (p *mountPlanner) from(arg string) error {
	ref, mode, readOnly, err := mounts.ParseFrom(arg)
	if err != nil {
		return err
	}
	e, err := p.reg.get(ref)
	if err != nil { // not of the class "not found": clients would look for the image
		return classed.Invalid("%v", err)
	}
	for _, m := range e.snapshot().Mounts {
		if m.Type == mount.TypeTmpfs {
			continue
		}
		m.Anonymous, m.FromImage, m.NoCopy = false, false, true
		m.RW = m.RW && !readOnly
		m.Mode = mode
		p.have[m.Destination] = m
	}
	return nil
}
