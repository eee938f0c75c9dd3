package containers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/service/containers/hostsfile"
	"github.com/gantry-engine/gantry/internal/service/containers/networking"
	"github.com/gantry-engine/gantry/internal/spec"
)

// connector changes which networks a container is on.
type connector struct{ *core }

// Connect adds a network to a container: of one that does not run the record alone, of a running one what it has, and
// then the record. The answer is a promise: on disk by then.
func (c *connector) Connect(ctx context.Context, ref string, req network.ConnectRequest) error {
	e, unlock, err := c.open(ctx, req.Container)
	if err != nil {
		return err
	}
	defer unlock()
	rec := e.snapshot()
	name, err := c.changeable(ctx, rec, ref)
	if err != nil {
		return err
	}
	ep := req.EndpointConfig.Copy()
	if ep == nil {
		ep = &network.EndpointSettings{}
	}
	if err := networking.CheckEndpoint(name, ep); err != nil {
		return err
	}
	if _, there := rec.Networks[name]; there && (rec.State.Status.Alive() || !emptyMode(rec, name)) {
		return classed.Errorf(errdefs.ErrPermissionDenied, "endpoint with name %s already exists in network %s", rec.Name, name)
	}
	want, err := c.endpointRequest(rec, name, ep)
	if err != nil {
		return err
	}
	nets := maps.Clone(rec.Networks)
	if nets == nil {
		nets = map[string]*network.EndpointSettings{}
	}
	nets[name] = ep
	if !rec.State.Status.Alive() {
		check := c.sandboxRequest(rec)
		check.Endpoints = append(check.Endpoints, want)
		if err := c.Networks.Check(ctx, check); err != nil {
			return err
		}
		_, err := c.change(ctx, e, durable, func(r *Container) { r.Networks = nets })
		return err
	}
	sb, err := c.Networks.Connect(ctx, c.sandboxRequest(rec), want)
	if err != nil {
		return err
	}
	failpoint.Hit("gantryd.connect-save")
	sb.NetNS = nil
	if _, err := c.change(ctx, e, durable, func(r *Container) { r.Networks, r.Sandbox = nets, sb }); err != nil {
		_, derr := c.Networks.Disconnect(context.WithoutCancel(ctx), c.sandboxRequest(rec), name, true)
		return errors.Join(err, derr)
	}
	failpoint.Hit("gantryd.connect-saved")
	return c.rewrite(ctx, rec, e.snapshot())
}

// emptyMode tells whether a container that does not run has a network only because its network mode names it.
func emptyMode(rec *Container, name string) bool {
	ep := rec.Networks[name]
	return string(rec.HostConfig.NetworkMode) == name && ep != nil && ep.IPAMConfig == nil && len(ep.Aliases) == 0
}

// Disconnect takes a network from a container.
func (c *connector) Disconnect(ctx context.Context, ref string, req network.DisconnectRequest) error {
	e, unlock, err := c.open(ctx, req.Container)
	if err != nil {
		return err
	}
	defer unlock()
	rec := e.snapshot()
	name, err := c.changeable(ctx, rec, ref)
	if err != nil && errdefs.IsNotFound(err) && rec.Networks[ref] != nil {
		name, err = ref, nil // one that is no more
	}
	if err != nil {
		return err
	}
	if _, there := rec.Networks[name]; !there {
		return classed.Errorf(errdefs.ErrPermissionDenied, "container %s is not connected to network %s", rec.ID, name)
	}
	nets := maps.Clone(rec.Networks)
	delete(nets, name)
	if !rec.State.Status.Alive() {
		_, err := c.change(ctx, e, durable, func(r *Container) { r.Networks = nets })
		return err
	}
	sb, err := c.Networks.Disconnect(ctx, c.sandboxRequest(rec), name, req.Force)
	if err != nil {
		return err
	}
	failpoint.Hit("gantryd.disconnect-save")
	sb.NetNS = nil
	// What could not be saved is tried again with the next change; the interface is gone either way.
	_, err = c.change(context.WithoutCancel(ctx), e, durable, func(r *Container) { r.Networks, r.Sandbox = nets, sb })
	failpoint.Hit("gantryd.disconnect-saved")
	return errors.Join(err, c.rewrite(ctx, rec, e.snapshot()))
}

// changeable finds the network, and tells what keeps the container's networks from being changed.
func (c *connector) changeable(ctx context.Context, rec *Container, ref string) (string, error) {
	name, err := c.Networks.Name(ctx, ref)
	if err != nil {
		return "", err
	}
	switch {
	case rec.State.Status == Removing || rec.State.Status == Dead:
		return "", classed.Conflict("container %s is marked for removal and cannot be connected or disconnected to the network", rec.ID)
	case rec.HostConfig.NetworkMode.IsContainer(), rec.HostConfig.NetworkMode.IsHost() && name != network.NetworkHost:
		return "", classed.Errorf(errdefs.ErrPermissionDenied, "container sharing network namespace with another container or host cannot be connected to any other network")
	case name == network.NetworkHost:
		return "", classed.Errorf(errdefs.ErrPermissionDenied, "cannot connect or disconnect container to host network - hostnetwork mode must be set at create")
	case rec.HostConfig.NetworkMode.IsNone() && name != network.NetworkNone && rec.Networks[network.NetworkNone] != nil:
		return "", classed.Errorf(errdefs.ErrPermissionDenied, "container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	return name, nil
}

// rewrite brings the files up to date that a running container reads its networks from: what the container or its
// user changed in them stays.
func (c *connector) rewrite(ctx context.Context, old, now *Container) error {
	dir := c.Config.filesDir(now.ID)
	err := editInPlace(filepath.Join(dir, "hosts"), func(text string) string {
		return hostsfile.Replace(text, ownHosts(old), ownHosts(now))
	})
	if err != nil {
		return err
	}
	before, err := c.resolvConf(ctx, old)
	if err != nil {
		return err
	}
	after, err := c.resolvConf(ctx, now)
	if err != nil {
		return err
	}
	return editInPlace(filepath.Join(dir, "resolv.conf"), func(text string) string {
		if text != before {
			return text // somebody's own
		}
		return after
	})
}

// editInPlace changes a file that is mounted in a container: its inode stays. One that is not there is left alone.
func editInPlace(path string, edit func(string) string) error {
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading a container's file: %w", err)
	}
	if text := edit(string(old)); text != string(old) {
		return writeInPlace(path, text)
	}
	return nil
}

// ownHosts are a container's lines of its own hosts file: its addresses.
func ownHosts(rec *Container) (lines []string) {
	names := rec.Config.Hostname
	if d := rec.Config.Domainname; d != "" {
		names = rec.Config.Hostname + "." + d + " " + rec.Config.Hostname
	}
	for _, ep := range rec.Sandbox.Endpoints {
		if ep.IPv4.IsValid() {
			lines = append(lines, ep.IPv4.Addr().String()+"\t"+names)
		}
		if ep.IPv6.IsValid() {
			lines = append(lines, ep.IPv6.Addr().String()+"\t"+names)
		}
	}
	return lines
}

// endpointRequest asks for one network as a container's settings want it.
func (c *core) endpointRequest(rec *Container, name string, ep *network.EndpointSettings) (spec.EndpointRequest, error) {
	r := spec.EndpointRequest{Network: name, MAC: []byte(ep.MacAddress), Aliases: ep.Aliases, DriverOpts: ep.DriverOpts, GwPriority: ep.GwPriority}
	if rec.State.Status.Alive() && rec.Networks[name] == ep { // it stands for what is there
		r.MAC = nil
	}
	if ep.IPAMConfig != nil {
		r.IPv4, r.IPv6, r.LinkLocal = ep.IPAMConfig.IPv4Address, ep.IPAMConfig.IPv6Address, slices.Clone(ep.IPAMConfig.LinkLocalIPs)
	}
	for _, l := range ep.Links {
		target, alias, err := networking.ParseLink(l)
		if err != nil {
			return r, err
		}
		// A name is looked up when it is asked for: who has it may come later, or be made anew.
		if other, err := c.reg.get(target); err == nil && other.snapshot().Name != target {
			target = other.id
		}
		r.Links = append(r.Links, spec.Link{Container: target, Alias: alias})
	}
	return r, nil
}
