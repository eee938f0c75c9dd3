package containers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	ociimage "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/service/containers/imageconfig"
	"github.com/gantry-engine/gantry/internal/service/containers/names"
	"github.com/gantry-engine/gantry/internal/service/containers/networking"
	"github.com/gantry-engine/gantry/internal/service/containers/ocispec"
	"github.com/gantry-engine/gantry/internal/service/containers/options"
	"github.com/gantry-engine/gantry/internal/spec"
)

// CreateRequest is what POST /containers/create says.
type CreateRequest struct {
	Name       string // empty for a random one; a leading slash is dropped
	Platform   *ociimage.Platform
	Config     *container.Config
	HostConfig *container.HostConfig
	Networking *network.NetworkingConfig
}

type creator struct{ *core }

// Create makes a container: everything is checked, the name is reserved, the
// writable layer and volumes are made, one record is committed. Errors carry
// Docker's texts; nothing is left behind by a create that fails.
func (c *creator) Create(ctx context.Context, req CreateRequest) (resp container.CreateResponse, err error) {
	if req.Config == nil {
		return resp, classed.Invalid("config cannot be empty in order to create a container")
	}
	config, hc := *req.Config, container.HostConfig{}
	if req.HostConfig != nil {
		hc = *req.HostConfig
	}
	name := strings.TrimPrefix(req.Name, "/")
	if name != "" || req.Name != "" {
		if err := names.Check(name); err != nil {
			return resp, err
		}
	}
	c.fillHostConfig(&hc)
	warnings, err := c.checkOptions(&config, &hc)
	if err != nil {
		return resp, err
	}
	img, err := c.Images.Resolve(ctx, config.Image, req.Platform)
	if err != nil {
		return resp, err
	}
	if err := imageconfig.Merge(&config, &img.Runtime); err != nil {
		return resp, err
	}
	if w := c.platformWarning(img, req.Platform); w != "" {
		warnings = append(warnings, w)
	}

	rec := &Container{ID: names.NewID(), Created: c.now(), Config: &config, HostConfig: &hc, Volatile: hc.AutoRemove,
		Image: ImageRef{ID: img.ID.String(), Manifest: img.Manifest.String(), MediaType: img.MediaType, Size: img.Size, Platform: img.Platform},
		State: State{Status: Created}}
	rec.Path, rec.Args = commandOf(&config)
	if rec.Networks, err = networking.Endpoints(&config, &hc, req.Networking); err != nil {
		return resp, err
	}
	if err := c.resolveModes(rec); err != nil {
		return resp, err
	}
	if err := c.nameNetworks(ctx, rec); err != nil {
		return resp, err
	}
	if err := c.checkLinks(rec); err != nil {
		return resp, err
	}
	if err := c.label(rec); err != nil {
		return resp, err
	}
	if err := c.checkSpec(rec); err != nil {
		return resp, err
	}

	var u undo.Stack
	defer func() { u.OnError(ctx, &err) }()
	if err := c.name(rec, name, &u); err != nil {
		return resp, err
	}
	// A network may be made later: start looks for it again.
	if err := c.Networks.Check(ctx, c.sandboxRequest(rec)); err != nil && !errdefs.IsNotFound(err) {
		return resp, err
	}
	if err := c.materialize(ctx, rec, img, &u); err != nil {
		return resp, err
	}
	failpoint.Hit("gantryd.create-save")
	e := newEntry(rec)
	folder := make(chan error, 1)
	go func() { folder <- c.makeFolder(rec) }() // while the disk is waited for
	u.Push("folder", func(context.Context) error { return os.RemoveAll(c.Config.dir(rec)) })
	if err := errors.Join(c.save(ctx, rec, durable), <-folder); err != nil {
		return resp, err
	}
	_ = c.unfinished.End(rec.ID)
	failpoint.Hit("gantryd.create-saved")
	c.reg.add(e)
	c.publish(rec, events.ActionCreate, nil)
	if warnings == nil {
		warnings = []string{}
	}
	return container.CreateResponse{ID: rec.ID, Warnings: warnings}, nil
}

// makeFolder makes the container's own folder below the data root.
func (c *creator) makeFolder(rec *Container) error {
	if rec.Volatile {
		return nil // below the exec root: made with the files of a run
	}
	if err := c.folders.Make(c.Config.dir(rec)); err != nil {
		return fmt.Errorf("making the container's folder: %w", err)
	}
	return nil
}

// name reserves the container's name.
func (c *creator) name(rec *Container, name string, u *undo.Stack) error {
	for attempt := 0; ; attempt++ {
		rec.Name = name
		if name == "" {
			rec.Name = names.Random(attempt)
		}
		err := c.reg.reserve(rec.Name, rec.ID)
		if err == nil {
			break
		}
		if name != "" || attempt > 20 {
			return err
		}
	}
	u.Push("name", func(context.Context) error { c.reg.release(rec.Name, rec.ID); return nil })
	return nil
}

// materialize makes what a container owns on disk: its writable layer and its volumes.
func (c *creator) materialize(ctx context.Context, rec *Container, img spec.Image, u *undo.Stack) error {
	size, err := options.SizeLimit(rec.HostConfig.StorageOpt)
	if err != nil {
		return err
	}
	if !rec.Volatile { // a volatile layer without a record is swept anyway
		if err := c.unfinished.Begin(rec.ID); err != nil {
			return err
		}
	}
	u.Push("note", func(context.Context) error { return c.unfinished.End(rec.ID) })
	root, err := c.Layers.Create(ctx, rec.ID, img, LayerOptions{SizeLimit: size, Volatile: rec.Volatile})
	if err != nil {
		return err
	}
	u.Push("writable layer", func(ctx context.Context) error { return c.Layers.Remove(ctx, rec.ID) })
	failpoint.Hit("gantryd.create-layer")
	p := mountPlanner{core: c.core, rec: rec, root: root, undo: u}
	if rec.Mounts, err = p.plan(ctx); err != nil {
		return err
	}
	rec.Log = c.logConfig(rec)
	if rec.AppArmor == "" && !rec.HostConfig.Privileged {
		rec.AppArmor = c.Config.AppArmorProfile
	}
	return nil
}

// commandOf is the program and its arguments: entry point and command in one.
func commandOf(config *container.Config) (string, []string) {
	if len(config.Entrypoint) > 0 {
		return config.Entrypoint[0], slices.Concat(config.Entrypoint[1:], config.Cmd)
	}
	return config.Cmd[0], slices.Clone(config.Cmd[1:])
}

// platformWarning tells of an image that is not for this host, unless it was asked for.
func (c *creator) platformWarning(img spec.Image, asked *ociimage.Platform) string {
	host := c.Config.Platform
	if asked != nil || host.Architecture == "" || img.Platform.Architecture == "" || img.Platform.Architecture == host.Architecture && img.Platform.OS == host.OS {
		return ""
	}
	return "The requested image's platform (" + platformText(img.Platform) + ") does not match the detected host platform (" + platformText(host) +
		") and no specific platform was requested"
}

func platformText(p ociimage.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// fillHostConfig sets what inspect shows where the request said nothing.
func (c *creator) fillHostConfig(hc *container.HostConfig) {
	cfg := c.Config
	if hc.NetworkMode == "" {
		hc.NetworkMode = network.NetworkDefault
	}
	if hc.NetworkMode == network.NetworkDefault {
		hc.NetworkMode = network.NetworkBridge
	}
	if hc.RestartPolicy.Name == "" {
		hc.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if hc.ShmSize == 0 {
		hc.ShmSize = c.tuning.Load().ShmSize
	}
	if hc.IpcMode == "" {
		hc.IpcMode = container.IpcMode(cfg.IpcMode)
	}
	if hc.CgroupnsMode == "" {
		hc.CgroupnsMode = container.CgroupnsMode(cfg.CgroupnsMode)
		if hc.Privileged && !cfg.Host.CgroupV2 {
			hc.CgroupnsMode = container.CgroupnsModeHost
		}
	}
	if hc.Runtime == "" {
		hc.Runtime = c.tuning.Load().DefaultRuntime
	}
	if hc.LogConfig.Type == "" {
		hc.LogConfig.Type = cfg.LogDriver
	}
	if hc.LogConfig.Type == cfg.LogDriver && len(cfg.LogOpts) > 0 {
		opts := maps.Clone(cfg.LogOpts)
		maps.Copy(opts, hc.LogConfig.Config)
		hc.LogConfig.Config = opts
	}
	if hc.LogConfig.Config == nil {
		hc.LogConfig.Config = map[string]string{}
	}
	if hc.MaskedPaths == nil && !hc.Privileged {
		hc.MaskedPaths = ocispec.DefaultMaskedPaths
	}
	if hc.ReadonlyPaths == nil && !hc.Privileged {
		hc.ReadonlyPaths = ocispec.DefaultReadonlyPaths
	}
	if hc.MemorySwap == 0 && hc.Memory > 0 {
		if hc.MemorySwap = 2 * hc.Memory; hc.MemorySwap < 0 { // more than a number holds: no bound
			hc.MemorySwap = -1
		}
	}
	if hc.OomKillDisable == nil && !cfg.Host.CgroupV2 {
		no := false
		hc.OomKillDisable = &no
	}
	if hc.PidMode == "private" {
		hc.PidMode = ""
	}
}

// resolveModes turns "container:name" into "container:id", as inspect shows it,
// and fills the host name.
func (c *creator) resolveModes(rec *Container) error {
	hc := rec.HostConfig
	for _, m := range []struct {
		set func(string)
		now string
	}{
		{func(s string) { hc.NetworkMode = container.NetworkMode(s) }, string(hc.NetworkMode)},
		{func(s string) { hc.PidMode = container.PidMode(s) }, string(hc.PidMode)},
		{func(s string) { hc.IpcMode = container.IpcMode(s) }, string(hc.IpcMode)},
	} {
		ref, ok := strings.CutPrefix(m.now, "container:")
		if !ok {
			continue
		}
		other, err := c.reg.get(ref)
		if err != nil {
			return classed.Invalid("%v", err) // of the class "not found" clients would think that the image is missing
		}
		m.set("container:" + other.id)
	}
	if hc.IpcMode.IsContainer() {
		other, err := c.reg.get(hc.IpcMode.Container())
		if err != nil {
			return err
		}
		if m := other.snapshot().HostConfig.IpcMode; m.IsPrivate() || m.IsNone() {
			return classed.Errorf(errdefs.ErrInvalidArgument, "cannot join IPC of a container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", other.id)
		}
	}
	if rec.Config.Hostname == "" {
		switch {
		case hc.NetworkMode.IsHost() || hc.UTSMode.IsHost():
			rec.Config.Hostname = hostHostname()
		case hc.NetworkMode.IsContainer():
			if other := c.reg.byID(hc.NetworkMode.ConnectedContainer()); other != nil {
				rec.Config.Hostname = other.snapshot().Config.Hostname
			}
		default:
			rec.Config.Hostname = rec.ID[:12]
		}
	}
	return nil
}
