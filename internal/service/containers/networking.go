package containers

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/containers/networking"
	"github.com/gantry-engine/gantry/internal/spec"
)

// sandboxRequest asks for the container's networks as its record wants them.
func (c *core) sandboxRequest(rec *Container) spec.SandboxRequest {
	req := spec.SandboxRequest{Container: rec.ID, Name: rec.Name, Hostname: rec.Config.Hostname, Domainname: rec.Config.Domainname, Admin: mayChangeNetwork(rec)}
	if rec.HostConfig.NetworkMode.IsContainer() {
		return req
	}
	req.DNS = rec.HostConfig.DNS
	if len(req.DNS) == 0 {
		req.DNS = c.Config.DNS
	}
	req.Ports, _ = networking.Ports(rec.Config, rec.HostConfig) // create has checked them
	mode := string(rec.HostConfig.NetworkMode)
	names := slices.SortedFunc(maps.Keys(rec.Networks), func(a, b string) int {
		if (a == mode) != (b == mode) { // the network mode's comes first: it is eth0
			if a == mode {
				return -1
			}
			return 1
		}
		return cmp.Compare(a, b)
	})
	for _, n := range names {
		r, err := c.endpointRequest(rec, n, rec.Networks[n])
		if err == nil { // links were checked at create
			req.Endpoints = append(req.Endpoints, r)
		}
	}
	for k, v := range rec.HostConfig.Sysctls {
		if strings.HasPrefix(k, "net.") {
			if req.Sysctls == nil {
				req.Sysctls = map[string]string{}
			}
			req.Sysctls[k] = v
		}
	}
	return req
}

// mayChangeNetwork tells whether the container may give its interfaces other addresses.
func mayChangeNetwork(rec *Container) bool {
	return rec.HostConfig.Privileged || slices.ContainsFunc(rec.HostConfig.CapAdd, func(c string) bool {
		c = strings.TrimPrefix(strings.ToUpper(c), "CAP_")
		return c == "NET_ADMIN" || c == "ALL"
	})
}

// nameNetworks replaces IDs of networks by their names, which is how records know them. What does not exist yet stays as it is.
func (c *core) nameNetworks(ctx context.Context, rec *Container) error {
	named := map[string]*network.EndpointSettings{}
	for _, ref := range slices.Sorted(maps.Keys(rec.Networks)) {
		name, err := c.Networks.Name(ctx, ref)
		if errdefs.IsNotFound(err) {
			name, err = ref, nil
		}
		if err != nil {
			return err
		}
		if string(rec.HostConfig.NetworkMode) == ref {
			rec.HostConfig.NetworkMode = container.NetworkMode(name)
		}
		if have := named[name]; have != nil && !networking.SaysNothing(have) && !networking.SaysNothing(rec.Networks[ref]) {
			return classed.Invalid("network %s is named twice: as %s, too", name, ref)
		} else if have == nil || networking.SaysNothing(have) {
			named[name] = rec.Networks[ref]
		}
	}
	rec.Networks = named
	return nil
}

// onNetworks notes in a record's settings which networks the container is on, so that who looks at it after its end sees it.
func onNetworks(asked map[string]*network.EndpointSettings, sb spec.Sandbox) map[string]*network.EndpointSettings {
	out := asked
	for _, ep := range sb.Endpoints {
		s := out[ep.NetworkName]
		if s == nil || s.NetworkID == ep.NetworkID {
			continue
		}
		s = s.Copy()
		s.NetworkID = ep.NetworkID
		out = maps.Clone(out)
		out[ep.NetworkName] = s
	}
	return out
}
