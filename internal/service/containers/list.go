package containers

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/filters"
	"github.com/gantry-engine/gantry/internal/service/containers/mounts"
	"github.com/gantry-engine/gantry/internal/spec"
)

// querier shows containers. It takes no container's lock.
type querier struct{ *core }

// ListOptions are the query parameters of GET /containers/json.
type ListOptions struct {
	All, Size bool
	Limit     int // the newest n, running or not; 0 or less is all
	Filters   filters.Args
}

// List shows containers, newest first.
func (c *querier) List(ctx context.Context, o ListOptions) ([]container.Summary, error) {
	resolved := map[string]string{}
	resolve := func(ref string) (string, bool) {
		id, ok := resolved[ref]
		if !ok {
			if img, err := c.Images.Resolve(ctx, ref, nil); err == nil {
				id = img.ID.String()
			}
			resolved[ref] = id
		}
		return id, id != ""
	}
	sel, err := c.selection(o.Filters, resolve)
	if err != nil {
		return nil, err
	}
	entries := c.reg.entries()
	slices.SortStableFunc(entries, func(a, b *entry) int {
		return cmp.Or(b.snapshot().Created.Compare(a.snapshot().Created), strings.Compare(a.id, b.id))
	})
	all := o.All || o.Limit > 0 || sel.all
	out := []container.Summary{}
	now := c.now()
	for _, e := range entries {
		rec, health := e.snapshot(), e.health.Load()
		if !all && !rec.Running() || !sel.match(rec, healthOf(health)) {
			continue
		}
		s := c.summary(rec, health, now)
		if id, _ := resolve(rec.Config.Image); id != rec.Image.ID {
			s.Image = rec.Image.ID
		}
		if o.Size {
			if s.SizeRw, s.SizeRootFs, err = c.sizes(ctx, rec); err != nil {
				return nil, err
			}
		}
		out = append(out, s)
		if o.Limit > 0 && len(out) == o.Limit {
			break
		}
	}
	return out, nil
}

// sizes are the writable layer's size, and that of the whole root.
func (c *querier) sizes(ctx context.Context, rec *Container) (rw, root int64, err error) {
	rw, image, err := c.Layers.Usage(ctx, rec.ID)
	return rw, rw + image, err
}

func healthOf(h *container.Health) container.HealthStatus {
	if h == nil {
		return container.NoHealthcheck
	}
	return h.Status
}

func (c *querier) summary(rec *Container, health *container.Health, now time.Time) container.Summary {
	s := container.Summary{
		ID: rec.ID, Names: []string{"/" + rec.Name}, Image: rec.Config.Image, ImageID: rec.Image.ID, ImageManifestDescriptor: rec.Image.descriptor(),
		Command: commandLine(rec), Created: rec.Created.Unix(), Ports: portList(rec), Labels: rec.Config.Labels,
		State: container.ContainerState(rec.State.Status), Status: statusText(rec, healthOf(health), now),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: endpointSettings(rec)},
		Mounts:          mountPoints(rec), Health: &container.HealthSummary{Status: healthOf(health)},
	}
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	if health != nil {
		s.Health.FailingStreak = health.FailingStreak
	}
	s.HostConfig.NetworkMode = string(rec.HostConfig.NetworkMode)
	s.HostConfig.Annotations = rec.HostConfig.Annotations
	return s
}

// commandLine joins the command for human eyes.
func commandLine(rec *Container) string {
	parts := []string{rec.Path}
	for _, a := range rec.Args {
		if strings.Contains(a, " ") {
			a = "'" + a + "'"
		}
		parts = append(parts, a)
	}
	return strings.Join(parts, " ")
}

// statusText is docker ps's STATUS: "Up 5 minutes (healthy)".
func statusText(rec *Container, health container.HealthStatus, now time.Time) string {
	st := rec.State
	up := units.HumanDuration(now.Sub(st.Started))
	since := units.HumanDuration(now.Sub(st.Finished))
	switch st.Status {
	case Paused:
		return "Up " + up + " (Paused)"
	case Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", st.ExitCode, since)
	case Running:
		switch health {
		case container.Starting:
			return "Up " + up + " (health: starting)"
		case container.Healthy, container.Unhealthy:
			return "Up " + up + " (" + string(health) + ")"
		}
		return "Up " + up
	case Removing:
		return "Removal In Progress"
	case Dead:
		return "Dead"
	case Created:
		return "Created"
	}
	if st.Finished.IsZero() {
		return ""
	}
	return fmt.Sprintf("Exited (%d) %s ago", st.ExitCode, since)
}

// bridged tells whether the container has a network of its own in which ports mean something.
func bridged(rec *Container) bool {
	return rec.State.Status.Alive() && slices.ContainsFunc(rec.Sandbox.Endpoints, func(e spec.Endpoint) bool {
		return e.Driver != "host" && e.Driver != "null"
	})
}

// publishes tells whether ports of the container can be published: one of its networks has a bridge that leads outside, or
// publishes them itself.
func publishes(rec *Container) bool {
	return bridged(rec) && len(rec.Sandbox.Ports) > 0 || bridged(rec) && slices.ContainsFunc(rec.Sandbox.Endpoints, func(e spec.Endpoint) bool {
		return e.HostInterface != "" || e.Gateway4.IsValid() && e.NetworkName == network.NetworkBridge // recorded before it was noted
	})
}

// portList is the PORTS column: published ports, and exposed ones that are not.
func portList(rec *Container) []container.PortSummary {
	out := []container.PortSummary{}
	if !bridged(rec) {
		return out
	}
	type key struct {
		port  uint16
		proto string
	}
	published := map[key]bool{}
	for _, p := range rec.Sandbox.Ports {
		published[key{p.ContainerPort, p.Proto}] = true
		out = append(out, container.PortSummary{IP: p.HostIP, PrivatePort: p.ContainerPort, PublicPort: p.HostPort, Type: p.Proto})
	}
	for p := range rec.Config.ExposedPorts {
		if !published[key{p.Num(), string(p.Proto())}] {
			out = append(out, container.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
		}
	}
	slices.SortFunc(out, func(a, b container.PortSummary) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), strings.Compare(a.Type, b.Type), a.IP.Compare(b.IP), cmp.Compare(a.PublicPort, b.PublicPort))
	})
	return out
}

// mountPoints are the mounts as list and inspect show them, in order of destination.
// What --tmpfs made is not among them: it stands in the host configuration.
func mountPoints(rec *Container) []container.MountPoint {
	out := []container.MountPoint{}
	for _, m := range rec.Mounts {
		if m.Type == mount.TypeTmpfs && !m.Spec {
			continue
		}
		out = append(out, m.MountPoint)
	}
	slices.SortFunc(out, func(a, b container.MountPoint) int { return strings.Compare(a.Destination, b.Destination) })
	return out
}

// endpointSettings are the container's networks: what was asked for, and what runs.
func endpointSettings(rec *Container) map[string]*network.EndpointSettings {
	out := map[string]*network.EndpointSettings{}
	for name, asked := range rec.Networks {
		s := asked.Copy()
		if s == nil {
			s = &network.EndpointSettings{}
		}
		out[name] = s
	}
	for _, e := range rec.Sandbox.Endpoints {
		s := out[e.NetworkName]
		if s == nil {
			s = &network.EndpointSettings{Aliases: e.Aliases, DriverOpts: e.DriverOpts}
			out[e.NetworkName] = s
		}
		s.NetworkID = e.NetworkID
		if !rec.State.Status.Alive() {
			continue
		}
		s.EndpointID, s.Gateway, s.IPv6Gateway = e.ID, router(e.Gateway4), router(e.Gateway6)
		if e.IPv4.IsValid() {
			s.IPAddress, s.IPPrefixLen = e.IPv4.Addr(), e.IPv4.Bits()
		}
		if e.IPv6.IsValid() {
			s.GlobalIPv6Address, s.GlobalIPv6PrefixLen = e.IPv6.Addr(), e.IPv6.Bits()
		}
		_ = s.MacAddress.UnmarshalText([]byte(e.MAC))
	}
	return out
}

// router is a gateway as shown: an interface that needs none shows none.
func router(a netip.Addr) netip.Addr {
	if a.IsValid() && a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// VolumeUsers are the IDs of the containers, running or not, that have the volume
// among their mounts. One that is being removed counts no more.
func (c *querier) VolumeUsers(volume string) []string {
	var ids []string
	for _, rec := range c.reg.all() {
		if rec.State.Status != Removing && slices.ContainsFunc(rec.Mounts, func(m mounts.Point) bool { return m.Name == volume }) {
			ids = append(ids, rec.ID)
		}
	}
	return ids
}

// Usage lists all containers with their sizes, for system df.
func (c *querier) Usage(ctx context.Context) ([]container.Summary, error) {
	return c.List(ctx, ListOptions{All: true, Size: true})
}

// CountStates counts containers: running (restarting included), paused, and all others.
func (c *querier) CountStates(context.Context) (running, paused, stopped int) {
	for _, rec := range c.reg.all() {
		switch rec.State.Status {
		case Running, Restarting:
			running++
		case Paused:
			paused++
		default:
			stopped++
		}
	}
	return running, paused, stopped
}
