package opts

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/docker/go-connections/nat"
	"github.com/moby/moby/api/types/network"
)

// ParsePorts reads --publish (short and long form) and --expose into what a container exposes and what is published.
func ParsePorts(publish, expose []string) (network.PortSet, network.PortMap, error) {
	var specs []string
	for _, p := range publish {
		if strings.Contains(p, "=") {
			var err error
			if p, err = longPort(p); err != nil {
				return nil, nil, err
			}
		}
		specs = append(specs, p)
	}
	_, bindings, err := nat.ParsePortSpecs(specs)
	if err != nil {
		return nil, nil, err
	}
	ports, published := network.PortSet{}, network.PortMap{}
	for p, bs := range bindings {
		port, err := network.ParsePort(string(p))
		if err != nil {
			return nil, nil, err
		}
		ports[port] = struct{}{}
		for _, b := range bs {
			var ip netip.Addr
			if b.HostIP != "" {
				if ip, err = netip.ParseAddr(b.HostIP); err != nil {
					return nil, nil, err
				}
			}
			published[port] = append(published[port], network.PortBinding{HostIP: ip, HostPort: b.HostPort})
		}
	}
	for _, e := range expose {
		if strings.Contains(e, ":") {
			return nil, nil, fmt.Errorf("invalid port format for --expose: %s", e)
		}
		proto, ports2 := nat.SplitProtoPort(e)
		if ports2 == "" {
			return nil, nil, fmt.Errorf("invalid port format for --expose: %s", e)
		}
		start, end, err := nat.ParsePortRange(ports2)
		if err != nil {
			return nil, nil, fmt.Errorf("invalid range format for --expose: %s, error: %w", e, err)
		}
		for n := start; n <= end; n++ {
			port, ok := network.PortFrom(uint16(n), network.IPProtocol(proto))
			if !ok {
				return nil, nil, fmt.Errorf("invalid port format for --expose: %s", e)
			}
			ports[port] = struct{}{}
		}
	}
	return ports, published, nil
}

// longPort turns published=8080,target=80,protocol=tcp into 8080:80/tcp.
func longPort(v string) (string, error) {
	target, published, proto := "", "", "tcp"
	fields, err := csvFields(v)
	if err != nil {
		return "", err
	}
	for _, f := range fields {
		key, val, ok := strings.Cut(f, "=")
		if !ok || key == "" {
			return "", fmt.Errorf("invalid publish opts format (should be name=value but got '%s')", f)
		}
		switch key {
		case "target":
			target = val
		case "published":
			published = val
		case "protocol":
			proto = val
		case "mode":
		default:
			return "", fmt.Errorf("invalid field key: %s", key)
		}
	}
	return published + ":" + target + "/" + proto, nil
}
