package spec

import (
	"net"
	"net/netip"
	"os"
	"time"
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

// Network is a network as recorded.
type Network struct {
	ID, Name string // 64 hex digits; the name is unique
	Driver   string
	Created  time.Time
	Scope    string // "local"

	EnableIPv4, EnableIPv6 bool
	Internal, Attachable   bool
	Ingress                bool
	ConfigOnly             bool   // only a configuration for others
	ConfigFrom             string // the name of the configuration it was made from

	IPAM    IPAM
	Pools   []Pool // settled: every family that is enabled has one, unless the IPAM driver gives none
	Options map[string]string
	Labels  map[string]string

	// Recorded says that it was read from its record: it was made before the daemon's start.
	Recorded bool `json:"-"`
}

// IPAM says who manages a network's addresses.
type IPAM struct {
	Driver  string // "default", "null", or a plugin's name
	Options map[string]string
}

// Pool is a subnet of a network.
type Pool struct {
	Subnet  netip.Prefix
	Range   netip.Prefix          // the part containers get addresses of; invalid is all
	Gateway netip.Addr            // the host's, or another router's
	Aux     map[string]netip.Addr // addresses of others, by their names
	Chosen  bool                  // by the engine, not by the user
}

// PoolStatus is how full a subnet is.
type PoolStatus struct{ InUse, Available uint64 }

// Gateway is the router of the subnet that an address is in; invalid if it has none.
func (n *Network) Gateway(a netip.Addr) netip.Addr {
	for _, p := range n.Pools {
		if p.Subnet.Contains(a) {
			return p.Gateway
		}
	}
	return netip.Addr{}
}

// EndpointRequest asks for one network in a container's sandbox.
type EndpointRequest struct {
	Network    string // ID or name
	IPv4, IPv6 netip.Addr
	LinkLocal  []netip.Addr
	MAC        net.HardwareAddr
	Aliases    []string // names for this container, on this network
	Links      []Link   // names for others, for this container alone
	GwPriority int      // the highest gives the default route
	DriverOpts map[string]string
}

// Link is a container's own name for another one.
type Link struct{ Container, Alias string }

// SandboxRequest asks for a container's whole network set-up, at each start.
type SandboxRequest struct {
	Container  string // full ID
	Name       string // the container's name without slash
	Hostname   string
	Domainname string
	Endpoints  []EndpointRequest
	Ports      []Port
	DNS        []netip.Addr // the servers asked for (--dns); none are the host's
	// Admin says that the container may configure its network itself (CAP_NET_ADMIN): addresses that it gives
	// itself are not taken for stolen ones.
	Admin   bool
	Sysctls map[string]string // net.* settings to be made in the namespace
}

// Endpoint is a container's presence on one network.
type Endpoint struct {
	ID          string // 64 hex digits
	NetworkID   string
	NetworkName string
	Driver      string
	Interface   string // inside the container, "eth0"
	// HostInterface is the bridge that leads to the endpoint: ports can be published there. Empty if there is none.
	HostInterface string `json:",omitempty"`
	HostVeth      string // the host's side, for clean-up after a crash
	MAC           string
	IPv4          netip.Prefix // address and prefix length of the network; invalid if none
	Gateway4      netip.Addr   // unspecified: the interface itself leads everywhere
	IPv6          netip.Prefix
	Gateway6      netip.Addr
	LinkLocal     []netip.Addr `json:",omitempty"`
	Aliases       []string
	Names         []string `json:",omitempty"` // that the network's name service knows it by
	Links         []Link   `json:",omitempty"`
	GwPriority    int      `json:",omitempty"`
	DriverOpts    map[string]string
}

// Sandbox is a container's network as made: a value that is recorded with the
// container, so that a restarted daemon can take it over (all but NetNS).
type Sandbox struct {
	ID        string
	Endpoints []Endpoint
	Ports     []Port       // as bound: HostPort is 0 only where a port is open at the container's own address
	Servers   []NameServer `json:",omitempty"` // whom names go to that no network has

	// NetNS is the namespace to launch the container in. The network service
	// owns it until Release; nil after a restart of the daemon.
	NetNS *os.File `json:"-"`
}
