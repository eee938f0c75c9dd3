package containers

import (
	"context"
	"maps"
	"path/filepath"
	"slices"

	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/containers/hostsfile"
	"github.com/gantry-engine/gantry/internal/service/containers/links"
	"github.com/gantry-engine/gantry/internal/service/containers/networking"
)

// checkLinks tells what is wrong with a container's links (--link), and replaces names by IDs, which stay when names change.
func (c *core) checkLinks(rec *Container) error {
	hc := rec.HostConfig
	if len(hc.Links) == 0 {
		return nil
	}
	switch {
	case hc.NetworkMode.IsHost():
		return classed.Invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	case hc.NetworkMode.IsContainer():
		return classed.Invalid("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case hc.NetworkMode.IsUserDefined(): // names of the network's own do it
		ep := rec.Networks[string(hc.NetworkMode)]
		if ep == nil {
			return nil
		}
		ep = ep.Copy()
		ep.Links = append(ep.Links, hc.Links...)
		rec.Networks = maps.Clone(rec.Networks)
		rec.Networks[string(hc.NetworkMode)] = ep
		return nil
	}
	resolved := []string{}
	for _, l := range hc.Links {
		target, alias, err := networking.ParseLink(l)
		if err != nil {
			return err
		}
		other, err := c.reg.get(target)
		if err != nil {
			return classed.Invalid("could not get container for %s: %v", target, err)
		}
		if m := other.snapshot().HostConfig.NetworkMode; m.IsContainer() || m.IsHost() {
			return classed.Invalid("Cannot link to a container sharing another's network or the host's: %s", target)
		}
		resolved = append(resolved, other.id+":"+alias)
	}
	hc.Links = resolved
	return nil
}

// linked is what a container is linked to, as it runs now.
func (c *core) linked(rec *Container, mustRun bool) (out []links.Target, err error) {
	if rec.HostConfig.NetworkMode.IsUserDefined() {
		return nil, nil
	}
	for _, l := range rec.HostConfig.Links {
		target, alias, err := networking.ParseLink(l)
		if err != nil {
			return nil, err
		}
		e, err := c.reg.get(target)
		if err != nil {
			if mustRun {
				return nil, classed.Conflict("Cannot link to %s AS /%s/%s: it is no more", target, rec.Name, alias)
			}
			continue
		}
		other := e.snapshot()
		t := links.Target{Alias: alias, Owner: rec.Name, Name: other.Name, Hostname: other.Config.Hostname, Env: other.Config.Env}
		for _, ep := range other.Sandbox.Endpoints {
			if ep.NetworkName == network.NetworkBridge && ep.IPv4.IsValid() {
				t.Address = ep.IPv4.Addr()
			}
		}
		switch {
		case !other.State.Status.Alive() && mustRun:
			return nil, classed.Conflict("Cannot link to a non running container: /%s AS /%s/%s", other.Name, rec.Name, alias)
		case !t.Address.IsValid() && mustRun:
			return nil, classed.Invalid("Cannot link to /%s, as it does not belong to the default network", other.Name)
		case !t.Address.IsValid():
			continue
		}
		t.Ports = slices.AppendSeq(t.Ports, maps.Keys(other.Config.ExposedPorts))
		out = append(out, t)
	}
	return out, nil
}

// relink brings the hosts files of the running containers up to date that are linked to one that has just come back: its
// address may be another one.
func (c *core) relink(ctx context.Context, now *Container) {
	for _, rec := range c.reg.all() {
		if !rec.State.Status.Alive() || !slices.ContainsFunc(rec.HostConfig.Links, func(l string) bool {
			target, _, _ := networking.ParseLink(l)
			return target == now.ID
		}) {
			continue
		}
		all, err := c.linked(rec, false)
		if err != nil || ctx.Err() != nil {
			continue
		}
		var lines []string
		for _, t := range all {
			lines = append(lines, t.Hosts())
		}
		err = editInPlace(filepath.Join(c.Config.filesDir(rec.ID), "hosts"), func(text string) string {
			return hostsfile.ReplaceNamed(text, lines)
		})
		if err != nil {
			c.log.Error("the hosts file of a linked container is not up to date", "container", rec.ID, "error", err)
		}
	}
}

// shownLinks are a container's links as inspect shows them: /target:/name/alias.
func (c *core) shownLinks(rec *Container) []string {
	var out []string
	for _, l := range rec.HostConfig.Links {
		target, alias, err := networking.ParseLink(l)
		if err != nil {
			continue
		}
		if e, err := c.reg.get(target); err == nil {
			target = e.snapshot().Name
		}
		out = append(out, "/"+target+":/"+rec.Name+"/"+alias)
	}
	return out
}
