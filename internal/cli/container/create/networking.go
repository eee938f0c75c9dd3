package create

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/cli/opts"
)

// networking makes the endpoint settings of every --network; --ip, --network-alias and the like belong to the first.
func (c *Flags) networking() (*network.NetworkingConfig, error) {
	endpoints := map[string]*network.EndpointSettings{}
	user, fixed := false, false
	list := c.networks.List
	if len(list) == 0 {
		list = []opts.Attachment{{Target: network.NetworkDefault}}
	}
	for i, n := range list {
		if n.Target == "" {
			return nil, errors.New("no name set for network")
		}
		if i == 0 {
			if err := c.firstNetwork(&n); err != nil {
				return nil, err
			}
		}
		mode := container.NetworkMode(n.Target)
		if mode.IsUserDefined() {
			user = true
		} else {
			fixed = true
		}
		if i > 0 && user && fixed {
			return nil, errors.New("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
		}
		ep, err := endpoint(n)
		if err != nil {
			return nil, err
		}
		if _, dup := endpoints[n.Target]; dup {
			return nil, fmt.Errorf("network %q is specified multiple times", n.Target)
		}
		if mode.IsUserDefined() || mode.IsBridge() || mode.IsDefault() || ep.MacAddress != nil || len(ep.DriverOpts) > 0 {
			endpoints[n.Target] = ep
		}
	}
	return &network.NetworkingConfig{EndpointsConfig: endpoints}, nil
}

// firstNetwork adds what flags of their own say about the first network.
func (c *Flags) firstNetwork(n *opts.Attachment) error {
	clash := func(flag, what string) error {
		return fmt.Errorf("conflicting options: cannot specify both --%s and per-network %s", flag, what)
	}
	if len(n.Aliases) > 0 && len(c.aliases.Values) > 0 {
		return clash("network-alias", "alias")
	}
	if len(n.Links) > 0 && len(c.links.Values) > 0 {
		return clash("link", "links")
	}
	if n.IPv4.IsValid() && c.ip4 != "" {
		return clash("ip", "IPv4 address")
	}
	if n.IPv6.IsValid() && c.ip6 != "" {
		return clash("ip6", "IPv6 address")
	}
	if n.MacAddress != "" && c.mac != "" {
		return clash("mac-address", "MAC address")
	}
	if len(n.LinkLocalIPs) > 0 && len(c.linkLocal.Values) > 0 {
		return clash("link-local-ip", "link-local IP addresses")
	}
	if len(c.aliases.Values) > 0 {
		n.Aliases = c.aliases.Values
	}
	if container.NetworkMode(n.Target).IsUserDefined() && len(c.links.Values) > 0 {
		n.Links = c.links.Values
	}
	var err error
	if c.ip4 != "" {
		if n.IPv4, err = netip.ParseAddr(c.ip4); err != nil {
			return fmt.Errorf("invalid IPv4 address: %s", c.ip4)
		}
	}
	if c.ip6 != "" {
		if n.IPv6, err = netip.ParseAddr(c.ip6); err != nil {
			return fmt.Errorf("invalid IPv6 address: %s", c.ip6)
		}
	}
	if c.mac != "" {
		n.MacAddress = c.mac
	}
	for _, ip := range c.linkLocal.Values {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			return fmt.Errorf("invalid link-local address: %s", ip)
		}
		n.LinkLocalIPs = append(n.LinkLocalIPs, a)
	}
	return nil
}

func endpoint(n opts.Attachment) (*network.EndpointSettings, error) {
	ep := &network.EndpointSettings{Aliases: n.Aliases, Links: n.Links, DriverOpts: n.DriverOpts, GwPriority: n.GwPriority}
	if n.IPv4.IsValid() || n.IPv6.IsValid() || len(n.LinkLocalIPs) > 0 {
		ep.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: n.IPv4, IPv6Address: n.IPv6, LinkLocalIPs: n.LinkLocalIPs}
	}
	if n.MacAddress != "" {
		if err := ep.MacAddress.UnmarshalText([]byte(n.MacAddress)); err != nil {
			return nil, fmt.Errorf("%s is not a valid mac address", n.MacAddress)
		}
	}
	return ep, nil
}
