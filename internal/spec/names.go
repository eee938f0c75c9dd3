package spec

import "net/netip"

// NameSandbox is what a container may ask its DNS server.
type NameSandbox struct {
	Container string       // full ID
	Networks  []string     // IDs of the networks with names that it is on, in the order in which names are looked for
	Links     []NameLink   // its own names for others
	Servers   []NameServer // whom all other questions go to, in order
	Forward   bool         // false: other questions go nowhere (all its networks are internal)
}

// NameLink is a name that only one container knows another by.
type NameLink struct {
	Network   string // ID
	Alias     string
	Container string // full ID, or a name on the network, of the one that is meant
}

// NameServer is an upstream DNS server.
type NameServer struct {
	Address netip.AddrPort
	Host    bool // asked from the host's namespace: a loopback address of the host's resolv.conf
}

// NameEndpoint is what others on a network may find a container by.
type NameEndpoint struct {
	ID          string // of the endpoint
	Network     string // ID
	NetworkName string
	Container   string       // full ID
	Addresses   []netip.Addr // at most one of each family
	Names       []string     // the first is what its addresses resolve to
}
