package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/platforms"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/config"
	"github.com/gantry-engine/gantry/internal/driver/cgroup"
	"github.com/gantry-engine/gantry/internal/driver/hostmount"
	"github.com/gantry-engine/gantry/internal/driver/keeper"
	"github.com/gantry-engine/gantry/internal/driver/keeper/compile"
	"github.com/gantry-engine/gantry/internal/driver/logs"
	"github.com/gantry-engine/gantry/internal/driver/rootview"
	"github.com/gantry-engine/gantry/internal/kit/sibling"
	containersservice "github.com/gantry-engine/gantry/internal/service/containers"
	imagesservice "github.com/gantry-engine/gantry/internal/service/images"
	systemservice "github.com/gantry-engine/gantry/internal/service/system"
	"github.com/gantry-engine/gantry/internal/spec"
)

// hostPorts are the containers' ports that come from drivers of the host alone.
type hostPorts struct {
	logs    containersservice.Logs
	cgroups *cgroup.Driver
	meters  containersservice.Meters
	parents io.Closer // of the containers' cgroups
}

// newHostPorts makes the ports of the containers that need nothing but the host.
func newHostPorts(d *daemon) (hostPorts, error) {
	cg, err := cgroup.New(cgroup.Config{Parent: d.cfg.CgroupParent, Systemd: d.cfg.ExecOpt("native.cgroupdriver") == "systemd", Holder: sibling.Path("gantry-init"),
		Notes: filepath.Join(d.cfg.ExecRoot, "cgroup-parents")})
	if err != nil {
		return hostPorts{}, err
	}
	return hostPorts{logs: logs.New(), cgroups: cg, meters: cg, parents: cg}, nil
}

// wireContainers starts (or finds) the keeper, and takes over the containers
// that live. Networks are open before it, and start after it.
func (e *engine) wireContainers(ctx context.Context, d *daemon, host hostPorts) error {
	k, err := keeper.New(keeper.Config{
		ExecRoot: d.cfg.ExecRoot, KeeperPath: sibling.Path("gantry-keeper"), AnchorPath: sibling.Path("gantry-anchor"), InitPath: sibling.Path("gantry-init"),
		Compile: compile.Launch, Logger: d.log,
	})
	if err != nil {
		return err
	}
	e.closers.Push("keeper", func(ctx context.Context) error { return leaveKeeper(ctx, k) })
	cfg, err := containersConfig(d.cfg)
	if err != nil {
		return err
	}
	cfg.StorageDriver = e.storageDriver()
	cfg.AppArmorProfile = defaultAppArmor(d.log, cfg.Host.AppArmor)
	e.containers = containersservice.New(containersservice.Deps{
		Records: d.store.Bucket("containers"), Images: e.images, Layers: e.layers, Views: rootview.New(),
		Processes: k, Lifetimes: k, Outputs: k, Logs: host.logs, Cgroups: host.cgroups, Meters: host.meters, OOMs: host.cgroups,
		Networks: e.networks, Volumes: e.volumes, HostMounts: hostmount.New(filepath.Join(d.cfg.ExecRoot, "subpaths")), Events: e.events, Config: cfg,
	})
	if err := e.containers.Recover(ctx); err != nil {
		return err
	}
	// Auto-remove containers whose record is gone, with the exec root or by a crash, left their layers.
	if err := e.layers.SweepVolatile(ctx, func(id string) bool { _, err := e.containers.Snapshot(ctx, id); return err == nil }); err != nil {
		d.log.Warn("layers of removed containers could not be swept", "error", err)
	}
	if err := host.cgroups.Sweep(cfg.CgroupParent, e.idle(ctx)); err != nil {
		d.log.Warn("cgroups of containers that do not run could not be removed", "error", err)
	}
	e.closers.Push("containers", e.containers.Shutdown)
	e.images.SetContainers(imageUsers{e.containers})
	e.volumes.SetUsers(e.containers.VolumeUsers)
	return nil
}

// idle tells of containers of this engine whether they do not run.
func (e *engine) idle(ctx context.Context) func(id string) bool {
	return func(id string) bool {
		rec, err := e.containers.Snapshot(ctx, id)
		return err == nil && rec.ID == id && !rec.State.Status.Alive()
	}
}

// leaveKeeper ends the keeper if it has nothing to look after; else it stays
// for the next daemon.
func leaveKeeper(ctx context.Context, k *keeper.Driver) error {
	alive, err := k.Alive(ctx)
	if err == nil && len(alive) == 0 {
		if err = k.Stop(ctx); err == nil {
			return nil
		}
	}
	return k.Close()
}

// containersConfig is what daemon.json decides for all containers.
func containersConfig(c *config.Config) (containersservice.Config, error) {
	host := hostFacts()
	host.SELinux = host.SELinux && c.SelinuxEnabled
	out := containersservice.Config{
		DataRoot: c.DataRoot, ExecRoot: c.ExecRoot, BootID: firstLine("/proc/sys/kernel/random/boot_id"),
		LiveRestore: c.LiveRestore, ShutdownTimeout: time.Duration(c.ShutdownTimeout) * time.Second, DefaultRuntime: c.DefaultRuntime,
		LogDriver: c.LogDriver, LogOpts: c.LogOpts, CgroupParent: c.CgroupParent, ShmSize: c.DefaultShmSize, Init: c.Init, NoNewPrivs: c.NoNewPrivileges,
		IpcMode: c.DefaultIpcMode, DNSOptions: c.DNSOpts, DNSSearch: c.DNSSrc, Platform: platforms.DefaultSpec(), Host: host, StopTimeout: stopTimeout(c),
	}
	if host.CgroupV2 || c.CgroupnsGiven { // on v1 "private" is not what containers there expect, unless it is asked for
		out.CgroupnsMode = c.DefaultCgroupnsMode
	}
	for _, u := range c.DefaultUlimits {
		out.Ulimits = append(out.Ulimits, &units.Ulimit{Name: u.Name, Hard: u.Hard, Soft: u.Soft})
	}
	for _, list := range []struct {
		texts []string
		to    *[]netip.Addr
	}{{c.DNS, &out.DNS}, {c.HostGatewayIPs, &out.HostGatewayIPs}} {
		for _, t := range list.texts {
			a, err := netip.ParseAddr(t)
			if err != nil {
				return out, err
			}
			*list.to = append(*list.to, a)
		}
	}
	switch c.SeccompProfile {
	case "", "builtin":
	case "unconfined":
		out.SeccompProfile = c.SeccompProfile
	default:
		b, err := os.ReadFile(c.SeccompProfile)
		if err != nil {
			return out, fmt.Errorf("reading the default seccomp profile (--seccomp-profile): %w", err)
		}
		out.SeccompProfile = string(b)
	}
	return out, nil
}

// stopTimeout is the default of containers that say nothing, nil where the configuration does not either.
func stopTimeout(c *config.Config) *int {
	if c.DefaultStopTimeout < 0 {
		return nil
	}
	return &c.DefaultStopTimeout
}

// containerCounter is the system's view of containers.
type containerCounter struct{ s *containersservice.Service }

// Known implements systemservice.Containers.
func (c containerCounter) Known(ctx context.Context, id string) bool {
	_, err := c.s.Snapshot(ctx, id)
	return err == nil
}

func (c containerCounter) Counts(ctx context.Context) (n systemservice.Counts) {
	list, err := c.s.List(ctx, containersservice.ListOptions{All: true})
	if err != nil {
		return n
	}
	for _, x := range list {
		switch x.State {
		case container.StateRunning, container.StateRestarting:
			n.Running++
		case container.StatePaused:
			n.Paused++
		default:
			n.Stopped++
		}
	}
	return n
}

func (c containerCounter) Usage(ctx context.Context) ([]container.Summary, error) {
	return c.s.List(ctx, containersservice.ListOptions{All: true, Size: true})
}

// imageUsers is the images' view of containers.
type imageUsers struct{ s *containersservice.Service }

func (u imageUsers) Uses(ctx context.Context) []imagesservice.ContainerUse {
	list, err := u.s.List(ctx, containersservice.ListOptions{All: true})
	if err != nil {
		return nil
	}
	uses := make([]imagesservice.ContainerUse, len(list))
	for i, c := range list {
		uses[i] = imagesservice.ContainerUse{
			ID: c.ID, Image: digest.Digest(c.ImageID), Name: c.Image,
			Running: c.State == container.StateRunning || c.State == container.StatePaused || c.State == container.StateRestarting,
		}
	}
	return uses
}

func (u imageUsers) Snapshot(ctx context.Context, ref string, pause bool, fn func(context.Context, imagesservice.Committable) error) error {
	rec, err := u.s.Snapshot(ctx, ref)
	if err != nil {
		return err
	}
	if pause && rec.State.Status == containersservice.Running {
		if err := u.s.Pause(ctx, rec.ID); err != nil {
			return err
		}
		defer func() { _ = u.s.Unpause(context.WithoutCancel(ctx), rec.ID) }()
	}
	attrs := map[string]string{"name": rec.Name, "image": rec.Config.Image}
	for k, v := range rec.Config.Labels {
		attrs[k] = v
	}
	return fn(ctx, imagesservice.Committable{
		ID:         rec.ID,
		Image:      spec.Image{ID: digest.Digest(rec.Image.ID), Manifest: digest.Digest(rec.Image.Manifest), Platform: rec.Image.Platform, Name: rec.Config.Image},
		Config:     imageConfig(rec.Config),
		Attributes: attrs,
	})
}

// imageConfig is the part of a container's configuration that a commit keeps.
func imageConfig(c *container.Config) spec.ImageConfig {
	var out spec.ImageConfig
	out.User, out.Env, out.Cmd, out.Entrypoint, out.WorkingDir = c.User, c.Env, c.Cmd, c.Entrypoint, c.WorkingDir
	out.Labels, out.StopSignal, out.Volumes = c.Labels, c.StopSignal, c.Volumes
	//lint:ignore SA1019 old images carry it
	out.ArgsEscaped = c.ArgsEscaped
	out.Healthcheck, out.OnBuild, out.Shell = c.Healthcheck, c.OnBuild, c.Shell
	if len(c.ExposedPorts) > 0 {
		out.ExposedPorts = map[string]struct{}{}
		for p := range c.ExposedPorts {
			out.ExposedPorts[p.String()] = struct{}{}
		}
	}
	return out
}
