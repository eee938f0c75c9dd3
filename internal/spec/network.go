package spec

import (
	"net"
	"net/netip"
	"os"
)

// Port is a published port: host side to container side.
type Port struct {
	Proto         string     // "tcp", "udp" or "sctp"
	ContainerPort uint16     // inside the container
	HostIP        netip.Addr // unspecified means every address of the host
	HostPort      uint16     // 0 in a request means an ephemeral port, or the first free one up to HostPortEnd
	HostPortEnd   uint16     // end of a range in a request, 0 if none
}

// PortTarget is where a container's published ports lead.
type PortTarget struct {
	// Interface is the host's interface of the network: by it packets go to the container.
	Interface  string
	IPv4, IPv6 netip.Addr // of the container; invalid if it has none of that family
	// HostIPv4 and HostIPv6 are where ports are published that name no address; invalid is the daemon's default.
	HostIPv4, HostIPv6 netip.Addr
	// Routed4 and Routed6: a published port is open at the container's own address, and takes none of the host.
	Routed4, Routed6 bool
}

// EndpointRequest asks for one network in a container's sandbox.
type EndpointRequest struct {
	Network    string // ID or name
	IPv4, IPv6 netip.Addr
	MAC        net.HardwareAddr
	Aliases    []string
	DriverOpts map[string]string
}

// SandboxRequest asks for a container's whole network set-up, at each start.
type SandboxRequest struct {
	Container  string // full ID
	Name       string // the container's name without slash
	Hostname   string
	Domainname string
	Endpoints  []EndpointRequest
	Ports      []Port
	Sysctls    map[string]string // net.* settings to be made in the namespace
}

// Endpoint is a container's presence on one network.
type Endpoint struct {
	ID          string // 64 hex digits
	NetworkID   string
	NetworkName string
	Driver      string
	Interface   string // inside the container, "eth0"
	HostVeth    string // the host's side, for clean-up after a crash
	MAC         string
	IPv4        netip.Prefix // address and prefix length of the network; invalid if none
	Gateway4    netip.Addr
	IPv6        netip.Prefix
	Gateway6    netip.Addr
	Aliases     []string
	DriverOpts  map[string]string
}

// Sandbox is a container's network as made: a value that is recorded with the
// container, so that a restarted daemon can take it over (all but NetNS).
type Sandbox struct {
	ID        string
	Endpoints []Endpoint
	Ports     []Port // as bound: HostPort is 0 only where a port is open at the container's own address

	// NetNS is the namespace to launch the container in. The network service
	// owns it until Release; nil after a restart of the daemon.
	NetNS *os.File `json:"-"`
}
