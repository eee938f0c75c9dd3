package networks

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/spec"
)

// text words the error; holder is the name of the container that has the port, if known.
func (e *PortTakenError) text(holder string) string {
	host := e.Port.HostIP
	if !host.IsValid() {
		host = netip.IPv4Unspecified()
	}
	addr := netip.AddrPortFrom(host, e.Port.HostPort)
	if e.Owner == "" {
		return fmt.Sprintf("failed to bind host port %s/%s: %s", addr, e.Port.Proto, e.Cause)
	}
	if holder == "" {
		holder = e.Owner
	}
	return fmt.Sprintf("Bind for %s failed: port is already allocated (by container %s)", addr, holder)
}

func checkPorts(ports []spec.Port) error {
	for _, p := range ports {
		switch strings.ToLower(p.Proto) {
		case "tcp", "udp", "sctp":
		default:
			return fmt.Errorf("invalid protocol %s of port %d: tcp, udp or sctp is needed: %w", strconv.Quote(p.Proto), p.ContainerPort, errdefs.ErrInvalidArgument)
		}
		if p.ContainerPort == 0 {
			return fmt.Errorf("invalid container port 0: %w", errdefs.ErrInvalidArgument)
		}
		if p.HostPortEnd != 0 && p.HostPortEnd < p.HostPort {
			return fmt.Errorf("invalid range of host ports %d-%d: %w", p.HostPort, p.HostPortEnd, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
