package networks

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/spec"
)

// reserved are the names that users cannot give.
var reserved = []string{network.NetworkBridge, network.NetworkHost, network.NetworkNone, network.NetworkDefault}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

// settle reads a request: what is wrong with it by itself, and what it leaves to the defaults. Options of the daemon's,
// by driver, go below the request's own.
func settle(req network.CreateRequest, options map[string]map[string]string, now time.Time) (*spec.Network, error) {
	switch {
	case strings.TrimSpace(req.Name) == "":
		return nil, invalid("invalid network name: a name is needed")
	case slices.Contains(reserved, req.Name):
		return nil, fmt.Errorf("operation is not permitted on predefined %s network: %w", req.Name, errdefs.ErrPermissionDenied)
	case req.Ingress || req.Scope == "swarm":
		return nil, fmt.Errorf("network %s: networks of a swarm are not there yet: %w", req.Name, errdefs.ErrNotImplemented)
	case req.Scope != "" && req.Scope != "local":
		return nil, invalid("invalid scope %q of network %s: local is needed", req.Scope, req.Name)
	}
	n := &spec.Network{
		ID: newID(), Name: req.Name, Driver: req.Driver, Created: now, Scope: "local", EnableIPv4: true, Internal: req.Internal, Attachable: req.Attachable, ConfigOnly: req.ConfigOnly,
		IPAM: spec.IPAM{Driver: "default"}, Options: map[string]string{}, Labels: map[string]string{},
	}
	maps.Copy(n.Labels, req.Labels)
	if req.EnableIPv4 != nil {
		n.EnableIPv4 = *req.EnableIPv4
	}
	if req.EnableIPv6 != nil {
		n.EnableIPv6 = *req.EnableIPv6
	}
	if req.ConfigFrom != nil {
		n.ConfigFrom = req.ConfigFrom.Network
	}
	if n.ConfigFrom != "" { // a configuration says what this one leaves out
		return n, errors.Join(onlyReference(req))
	}
	if n.Driver == "" {
		n.Driver = "bridge"
	}
	if !req.ConfigOnly {
		maps.Copy(n.Options, options[n.Driver])
	}
	maps.Copy(n.Options, req.Options)
	if req.IPAM != nil {
		if req.IPAM.Driver != "" {
			n.IPAM.Driver = req.IPAM.Driver
		}
		n.IPAM.Options = maps.Clone(req.IPAM.Options)
		pools, err := poolsOf(req.IPAM.Config, n)
		if err != nil {
			return nil, err
		}
		n.Pools = pools
	}
	if v, ok := n.Options["com.docker.network.enable_ipv4"]; ok && req.EnableIPv4 == nil {
		n.EnableIPv4 = v == "true"
	}
	if v, ok := n.Options["com.docker.network.enable_ipv6"]; ok && req.EnableIPv6 == nil {
		n.EnableIPv6 = v == "true"
	}
	if !n.EnableIPv4 && !n.EnableIPv6 && !n.ConfigOnly {
		return nil, invalid("IPv4 or IPv6 must be enabled")
	}
	return n, nil
}

// onlyReference tells what a network that follows a configuration may not say itself.
func onlyReference(req network.CreateRequest) error {
	if req.ConfigOnly || len(req.Options) > 0 || req.IPAM != nil && (len(req.IPAM.Config) > 0 || len(req.IPAM.Options) > 0 || req.IPAM.Driver != "" && req.IPAM.Driver != "default") {
		return fmt.Errorf("user supplied configurations are not supported if the network depends on a configuration network: %w", errdefs.ErrPermissionDenied)
	}
	return nil
}

// poolsOf reads the subnets of a request.
func poolsOf(configs []network.IPAMConfig, n *spec.Network) (pools []spec.Pool, err error) {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, c := range configs {
		if !c.Subnet.IsValid() {
			if c.Gateway.IsValid() || c.IPRange.IsValid() || len(c.AuxAddress) > 0 {
				wrong("invalid subnet: gateway, ip-range and auxiliary addresses need the subnet that they are in")
			}
			continue
		}
		if c.Subnet != c.Subnet.Masked() {
			wrong("invalid subnet %s: it should be %s", c.Subnet, c.Subnet.Masked())
		}
		if r := c.IPRange; r.IsValid() {
			switch {
			case r != r.Masked():
				wrong("invalid ip-range %s: it should be %s", r, r.Masked())
			case r.Addr().Is4() != c.Subnet.Addr().Is4():
				wrong("invalid ip-range %s: parent subnet %s is of the other family", r, c.Subnet)
			case r.Bits() < c.Subnet.Bits():
				wrong("invalid ip-range %s: CIDR block is bigger than its parent subnet %s", r, c.Subnet)
			case !c.Subnet.Contains(r.Addr()):
				wrong("invalid ip-range %s: parent subnet %s doesn't contain ip-range", r, c.Subnet)
			}
		}
		if g := c.Gateway; g.IsValid() && !c.Subnet.Contains(g) {
			wrong("invalid gateway %s: parent subnet %s doesn't contain this address", g, c.Subnet)
		}
		for name, a := range c.AuxAddress {
			if !c.Subnet.Contains(a) {
				wrong("invalid auxiliary address %s=%s: parent subnet %s doesn't contain this address", name, a, c.Subnet)
			}
		}
		for _, p := range pools {
			if p.Subnet.Overlaps(c.Subnet) {
				wrong("invalid subnet %s: it overlaps %s of the same network", c.Subnet, p.Subnet)
			}
		}
		if c.Subnet.Addr().Is4() && !n.EnableIPv4 {
			wrong("invalid subnet %s: IPv4 is disabled for this network", c.Subnet)
		}
		if c.Subnet.Addr().Is6() && !n.EnableIPv6 { // said as it is meant, where Docker ignores it
			wrong("invalid subnet %s: IPv6 is not enabled for this network", c.Subnet)
		}
		pools = append(pools, spec.Pool{Subnet: c.Subnet.Masked(), Range: c.IPRange, Gateway: c.Gateway, Aux: maps.Clone(c.AuxAddress)})
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("invalid network config:\n%w: %w", errors.Join(errs...), errdefs.ErrInvalidArgument)
	}
	return pools, nil
}
