package containers

import (
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/gantry-engine/gantry/internal/service/containers/networking"
	"github.com/gantry-engine/gantry/internal/spec"
)

// sandboxRequest asks for the container's networks as its record wants them.
func sandboxRequest(rec *Container) spec.SandboxRequest {
	req := spec.SandboxRequest{Container: rec.ID, Name: rec.Name, Hostname: rec.Config.Hostname, Domainname: rec.Config.Domainname}
	if rec.HostConfig.NetworkMode.IsContainer() {
		return req
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
		return strings.Compare(a, b)
	})
	for _, n := range names {
		ep := rec.Networks[n]
		r := spec.EndpointRequest{Network: n, MAC: net.HardwareAddr(ep.MacAddress), Aliases: ep.Aliases, DriverOpts: ep.DriverOpts}
		if ep.IPAMConfig != nil {
			r.IPv4, r.IPv6 = ep.IPAMConfig.IPv4Address, ep.IPAMConfig.IPv6Address
		}
		req.Endpoints = append(req.Endpoints, r)
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
