package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/config"
	"github.com/gantry-engine/gantry/internal/driver/content"
	"github.com/gantry-engine/gantry/internal/driver/disk"
	"github.com/gantry-engine/gantry/internal/driver/layers"
	"github.com/gantry-engine/gantry/internal/driver/network"
	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/driver/registry"
	"github.com/gantry-engine/gantry/internal/driver/volume/local"
	"github.com/gantry-engine/gantry/internal/kit/sibling"
	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/server"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
	buildroute "github.com/gantry-engine/gantry/internal/server/route/build"
	containersroute "github.com/gantry-engine/gantry/internal/server/route/containers"
	eventsroute "github.com/gantry-engine/gantry/internal/server/route/events"
	execroute "github.com/gantry-engine/gantry/internal/server/route/exec"
	imagesroute "github.com/gantry-engine/gantry/internal/server/route/images"
	networksroute "github.com/gantry-engine/gantry/internal/server/route/networks"
	pluginsroute "github.com/gantry-engine/gantry/internal/server/route/plugins"
	registriesroute "github.com/gantry-engine/gantry/internal/server/route/registries"
	sessionroute "github.com/gantry-engine/gantry/internal/server/route/session"
	swarmroute "github.com/gantry-engine/gantry/internal/server/route/swarm"
	systemroute "github.com/gantry-engine/gantry/internal/server/route/system"
	volumesroute "github.com/gantry-engine/gantry/internal/server/route/volumes"
	containersservice "github.com/gantry-engine/gantry/internal/service/containers"
	eventsservice "github.com/gantry-engine/gantry/internal/service/events"
	imagesservice "github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/service/images/recall"
	networksservice "github.com/gantry-engine/gantry/internal/service/networks"
	registriesservice "github.com/gantry-engine/gantry/internal/service/registries"
	systemservice "github.com/gantry-engine/gantry/internal/service/system"
	volumesservice "github.com/gantry-engine/gantry/internal/service/volumes"
	"github.com/gantry-engine/gantry/internal/trust/policy"
	"github.com/gantry-engine/gantry/internal/trust/program"
	"github.com/gantry-engine/gantry/internal/version"
)

// engine is all services over all drivers. This file is the only place where
// they meet; what is made here is stopped here, in reverse order.
type engine struct {
	events     *eventsservice.Service
	containers *containersservice.Service
	layers     *layers.Store
	content    *content.Store
	disk       disk.Ledger
	system     *systemservice.Service
	registry   *registry.Client
	images     *imagesservice.Service
	volumes    *volumesservice.Service
	networks   *networksservice.Service

	closers undo.Stack // what ends with the engine
}

// wire builds the engine and gives its routes. What was made is ended again if a later part fails.
func wire(ctx context.Context, d *daemon) (_ *engine, _ []httpapi.Router, err error) {
	e := &engine{events: eventsservice.New(d.log)}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.closers.Run(ctx))
		}
	}()
	if err := e.wireImages(ctx, d); err != nil {
		return nil, nil, err
	}
	if err := e.wireVolumes(ctx, d); err != nil {
		return nil, nil, err
	}
	if err := e.wireNetworks(ctx, d); err != nil {
		return nil, nil, err
	}
	ports := systemservice.Ports{Events: e.events, Images: imageCounter{e.images}, Volumes: e.volumes}
	routers := []httpapi.Router{
		eventsroute.New(e.events), pluginsroute.New(), swarmroute.New(),
		buildroute.New(), sessionroute.New(), registriesroute.New(registriesservice.New(e.registry)),
		imagesroute.New(e.images), volumesroute.New(e.volumes),
	}
	host, err := newHostPorts(d)
	if err != nil {
		return nil, nil, err
	}
	e.closers.Push("cgroup parents", func(context.Context) error { return host.parents.Close() })
	if err := e.wireContainers(ctx, d, host); err != nil {
		return nil, nil, err
	}
	ports.Checks, ports.Records = e.images, d.store
	ports.Disk = e.disk
	ports.Containers = containerCounter{e.containers}
	routers = append(routers, networksroute.New(e.networks, e.containers), containersroute.New(e.containers), execroute.New(e.containers))
	if err := e.networks.Start(ctx); err != nil {
		return nil, nil, err
	}
	e.containers.Resume()
	e.images.Budget(d.cfg.DiskBudget)
	e.system = systemservice.New(e.facts(d), ports)
	return e, append(routers, systemroute.New(e.system)), nil
}

func (e *engine) wireImages(ctx context.Context, d *daemon) error {
	blobs, err := content.Open(ctx, filepath.Join(d.cfg.DataRoot, "content"))
	if err != nil {
		return err
	}
	e.content = blobs
	e.closers.Push("content store", func(context.Context) error { return blobs.Close() })
	served, err := newLazy(d, blobs)
	if err != nil {
		return err
	}
	e.closers.Push("layers that are not here yet", func(ctx context.Context) error { return e.leaveLazy(ctx, served) })
	if e.layers, err = layers.Open(ctx, filepath.Join(d.cfg.DataRoot, "layers"), layers.Options{
		Driver: d.cfg.StorageDriver, LazyMounts: lazyMounts(d.cfg), LazyGone: served.Drop,
	}); err != nil {
		return err
	}
	e.closers.Push("layer store", func(context.Context) error { return e.layers.Close() })
	if e.registry, err = registry.New(registryConfig(d.cfg), d.log); err != nil {
		return err
	}
	blobs.MakeBy(recall.NewMaker(e.layers, blobs, imagesservice.Anybody{Registry: e.registry}))
	e.disk = disk.Ledger{Root: d.cfg.DataRoot, Layer: e.layers.Disk, Spared: e.content.Spared}
	again := imagesservice.Recall{Layers: e.layers, Shelf: blobs, Dropper: recall.NewDropper(e.layers, blobs, blobs.Blobs(), d.log)}
	e.closers.Push("dropping of blobs", func(context.Context) error { again.Dropper.Close(); return nil })
	e.images, err = imagesservice.New(ctx, imagesservice.Deps{
		Content: blobs, Layers: e.layers, ContentCheck: blobs, LayerCheck: e.layers, Disk: e.disk, LastUse: filepath.Join(d.cfg.DataRoot, "images-used.json"), Recall: again, Registry: e.registry, Lazy: lazyPort(served, e.layers), Events: e.events, Log: d.log,
		Verifier: program.Program{Path: sibling.Path(program.Name), Alone: true},
	})
	if err != nil {
		return err
	}
	e.closers.Push("images", func(context.Context) error { e.images.Close(); return nil })
	e.images.Bound(d.cfg.MaxDownloads, d.cfg.MaxUploads)
	e.startLazy(ctx, d, served)
	return e.enforce(d.cfg)
}

// enforce reads the image policy, and puts it in force or ends it.
func (e *engine) enforce(c *config.Config) error {
	if c.ImagePolicy == "" {
		e.images.Trust(nil)
		return nil
	}
	p, err := policy.Load(c.ImagePolicy)
	if err == nil {
		e.images.Trust(p)
	}
	return err
}

// registryConfig says how registries are reached.
func registryConfig(c *config.Config) registry.Config {
	return registry.Config{
		Default: c.DefaultRegistry, Mirrors: c.RegistryMirrors, Insecure: c.InsecureRegistries, CertDirs: []string{"/etc/gantry/certs.d", "/etc/docker/certs.d", "/etc/containerd/certs.d"},
		Attempts: c.MaxRetries, UserAgent: "gantry/" + version.Version + " (" + runtime.GOOS + ")",
	}
}

func (e *engine) wireVolumes(ctx context.Context, d *daemon) error {
	driver, err := local.New(d.cfg.DataRoot)
	if err != nil {
		return err
	}
	e.volumes, err = volumesservice.New(ctx, d.store.Bucket("volumes"), driver, driver, e.events)
	return err
}

func (e *engine) wireNetworks(ctx context.Context, d *daemon) error {
	c := d.cfg
	n := network.Config{
		ExecRoot: c.ExecRoot, State: filepath.Join(c.DataRoot, "network-plugins"), GantryNet: sibling.Path("gantry-net"), Bridge: c.BridgeName, Gateway: c.DefaultGateway, HostIP: c.IP, MTU: c.MTU,
		IPv6: c.IPv6, Gateway6: c.DefaultGateway6, DirectRouting: c.AllowDirectRouting, RespectHostFirewall: c.RespectHostFirewall,
		NoICC: !c.ICC, NoMasq: !c.IPMasq, NoIPTables: !c.IPTables, NoIPForward: !c.IPForward, ForwardNoDrop: c.ForwardNoDrop,
		Table: c.FirewallTable, PoolSize: poolSize, Engine: d.id, Namespace: e.namespaceOf,
	}
	var err error
	if n.AcceptMark.Value, n.AcceptMark.Mask, err = c.AcceptMark(); err != nil {
		return err
	}
	if c.Bridge != "" {
		n.Bridge, n.External = c.Bridge, true
	}
	for _, p := range []struct {
		text string
		to   *netip.Prefix
	}{{c.BIP, &n.Address}, {c.FixedCIDR, &n.FixedCIDR}, {c.BIP6, &n.Address6}, {c.FixedCIDR6, &n.FixedCIDR6}} {
		if p.text != "" {
			if *p.to, err = netip.ParsePrefix(p.text); err != nil {
				return err
			}
		}
	}
	for _, p := range c.AddressPools {
		base, err := netip.ParsePrefix(p.Base)
		if err != nil {
			return err
		}
		n.Supplies = append(n.Supplies, ipam.Supply{Base: base, Size: p.Size})
	}
	deps, err := network.New(n)
	if err != nil {
		return err
	}
	deps.Events, deps.Records = e.events, d.store.Bucket("networks")
	e.networks, err = networksservice.New(networksservice.Config{
		Seed: d.id, Created: d.born(), DNS: c.DNS, DNSSearch: c.DNSSrc, DNSOptions: c.DNSOpts, Options: c.NetworkOpts, Name: e.containerName,
	}, deps)
	if err != nil {
		return err
	}
	e.closers.Push("networks", e.networks.Close)
	return e.networks.Open(ctx)
}

// poolSize is how many network namespaces are kept ready for containers.
const poolSize = 8

// imageCounter is the system's view of images.
type imageCounter struct{ *imagesservice.Service }

func (c imageCounter) Count(ctx context.Context) int {
	list, err := c.List(ctx, imagesservice.ListOptions{})
	if err != nil {
		return 0
	}
	return len(list)
}

// storageDriver names the layer store's driver as clients know it.
func (e *engine) storageDriver() string {
	if name := e.layers.Driver(); name != layers.DriverOverlay {
		return name
	}
	return "overlayfs"
}

func (e *engine) facts(d *daemon) systemservice.Facts {
	c := d.cfg
	driver := c.ExecOpt("native.cgroupdriver")
	if driver == "" {
		driver = "cgroupfs"
	}
	f := systemservice.Facts{
		ID: d.id, Version: version.Version, Commit: version.Commit, Built: version.Built, APIVersion: server.MaxVersion, MinAPIVersion: server.MinVersion,
		DataRoot: c.DataRoot, Experimental: c.Experimental, LogDriver: c.LogDriver, LogDrivers: []string{"json-file", "local", "none"},
		CgroupDriver: driver, HTTPProxy: c.HTTPProxy, HTTPSProxy: c.HTTPSProxy, NoProxy: c.NoProxy,
		StorageDriver: e.storageDriver(), StorageStatus: [][2]string{{"Backing Filesystem", filesystem(c.DataRoot)}},
		NetworkDrivers: e.networks.Drivers(), Firewall: "nftables", SecurityOptions: securityOptions(c, e.containers.Config), DefaultRuntime: c.DefaultRuntime,
	}
	reloadable(&f, c)
	return f
}

// securityOptions are what confines containers that ask for nothing else.
func securityOptions(c *config.Config, cc containersservice.Config) (list []string) {
	if cc.AppArmorProfile != "" {
		list = append(list, "name=apparmor")
	}
	if cc.Host.Seccomp {
		list = append(list, "name=seccomp,profile="+c.SeccompProfile)
	}
	if cc.Host.SELinux {
		list = append(list, "name=selinux")
	}
	if there("/proc/self/ns/cgroup") {
		list = append(list, "name=cgroupns")
	}
	if c.NoNewPrivileges {
		list = append(list, "name=no-new-privileges")
	}
	return list
}

// reloadable are the facts that SIGHUP may change.
func reloadable(f *systemservice.Facts, c *config.Config) {
	f.Debug, f.Labels, f.LiveRestore, f.DefaultRuntime = c.Debug, c.Labels, c.LiveRestore, c.DefaultRuntime
	f.Insecure, f.Mirrors = c.InsecureRegistries, c.RegistryMirrors
}

// reload takes over what changed in daemon.json and tells those who listen.
func (e *engine) reload(c *config.Config) error {
	e.system.Reload(func(f *systemservice.Facts) { reloadable(f, c) })
	err := errors.Join(e.registry.Configure(registryConfig(c)), e.enforce(c))
	e.images.Bound(c.MaxDownloads, c.MaxUploads)
	e.images.Budget(c.DiskBudget)
	e.images.PullLazily(c.LazyPull)
	e.containers.Retune(containersservice.Tuning{DefaultRuntime: c.DefaultRuntime, ShmSize: c.DefaultShmSize, StopTimeout: stopTimeout(c)})
	f := e.system.Facts()
	e.events.Publish(events.Message{Type: events.DaemonEventType, Action: events.ActionReload, Actor: events.Actor{
		ID: f.ID, Attributes: reloadAttributes(e.system.Info(context.Background()).Name, c),
	}})
	return err
}

// containerName is a container's present name by ID.
func (e *engine) containerName(id string) string {
	if e.containers == nil {
		return ""
	}
	rec, err := e.containers.Snapshot(context.Background(), id)
	if err != nil {
		return ""
	}
	return rec.Name
}

// namespaceOf opens the network namespace of a running container by its ID.
func (e *engine) namespaceOf(id string) (*os.File, error) {
	rec, err := e.containers.Snapshot(context.Background(), id)
	if err != nil {
		return nil, err
	}
	if rec.State.Pid == 0 {
		return nil, os.ErrNotExist
	}
	return os.Open(fmt.Sprintf("/proc/%d/ns/net", rec.State.Pid))
}

func (e *engine) states() map[string]int {
	if e.containers == nil {
		return nil
	}
	n := containerCounter{e.containers}.Counts(context.Background())
	return map[string]int{"running": n.Running, "paused": n.Paused, "stopped": n.Stopped}
}

// stop ends the services as the configuration of this moment says, which SIGHUP may have
// changed: with live-restore containers go on without the daemon.
func (e *engine) stop(ctx context.Context, c *config.Config) error {
	if e.containers != nil {
		e.containers.Config.LiveRestore, e.containers.Config.ShutdownTimeout = c.LiveRestore && !hostStopping(ctx), time.Duration(c.ShutdownTimeout)*time.Second
	}
	return e.closers.Run(ctx)
}
