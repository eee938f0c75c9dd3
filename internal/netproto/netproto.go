// Package netproto is what gantryd and gantry-net say to each other over UNIX
// stream sockets: one JSON object per line, a request by gantryd, then its answer.
// gantryd has one connection for ports and one for names.
//
//	gantryd                                     gantry-net
//	{"op":"reserve","owner":…,"wants":[…]}  →   binds all ports or none
//	                                        ←   {"ports":[…]} or {"taken":…}
//	{"op":"release","owner":…}              →   closes what owner holds
//	{"op":"keep","owners":[…]}              →   closes what nobody of these holds
//
//	{"op":"serve","sandbox":{…},"fds":2}    →   answers the container's questions about names; may bring "joins"
//	{"op":"serve","sandbox":{…}}            →   changes what it may ask
//	                                        ←   {"deaf":true}: its sockets are not here, send them
//	{"op":"join","endpoint":{…}}            →   a container has names and addresses on a network
//	{"op":"leave","owner":…}                →   the endpoint of this ID is no more
//	{"op":"gone","owner":…}                 →   the container is no more, nor its endpoints
//	{"op":"keep-names","owners":[…],"endpoints":[…]} → forgets all other containers and endpoints
//
// Saying again what is known already changes nothing: a restarted gantryd may repeat
// everything it knows, and then have the rest dropped. Descriptors come with the line
// that announces them (SCM_RIGHTS); see Conn.
package netproto

import "net/netip"

// Bounds of a message.
const (
	MaxLine = 4 << 20 // bytes
	MaxFDs  = 2       // descriptors
)

// Operations.
const (
	OpReserve   = "reserve"
	OpRelease   = "release"
	OpKeep      = "keep"
	OpServe     = "serve"
	OpJoin      = "join"
	OpLeave     = "leave"
	OpGone      = "gone"
	OpKeepNames = "keep-names"
)

// ResolverPort is where, at ResolverAddress inside a container's namespace, its two sockets are bound. What is
// sent to port 53 there is led to it, so that a program in the container can have port 53 of every address for itself.
const ResolverPort = 1013

// ResolverAddress is the DNS server in a container's resolv.conf.
var ResolverAddress = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// Request is a message to gantry-net.
type Request struct {
	Op        string     `json:"op"`
	Owner     string     `json:"owner,omitempty"`
	Owners    []string   `json:"owners,omitempty"`
	Wants     []Want     `json:"wants,omitempty"`
	Sandbox   *Sandbox   `json:"sandbox,omitempty"`
	Endpoint  *Endpoint  `json:"endpoint,omitempty"`
	Joins     []Endpoint `json:"joins,omitempty"` // with serve: to be joined if the container is served
	Endpoints []string   `json:"endpoints,omitempty"`
	FDs       int        `json:"fds,omitempty"` // how many descriptors belong to this line
}

// Want is a host port to be held, and where connections to it go that the kernel does not translate: those over IPv6 to a
// container without it, those over IPv4 to a container without that, and those to ::1.
type Want struct {
	Proto  string         `json:"proto"` // "tcp", "udp" or "sctp"
	Host   netip.Addr     `json:"host"`  // unspecified: every address of its family
	Port   uint16         `json:"port"`  // 0: any of the ephemeral range
	End    uint16         `json:"end"`   // end of a range, or 0
	Target netip.AddrPort `json:"target"`
	// IPv6 asks for the port at every address of IPv6, too; for Host 0.0.0.0. On a host without IPv6 there is none.
	IPv6 bool `json:"ipv6,omitempty"`
}

// Bound is a port as held.
type Bound struct {
	Port uint16
	IPv6 bool // it is held at every address of IPv6, too
}

// Sandbox is what a container may ask. Its descriptors are a UDP socket and a listening TCP socket, bound in its
// namespace; upstream servers are asked from the namespace that the sockets are in.
type Sandbox struct {
	Container string   `json:"container"`
	Networks  []string `json:"networks,omitempty"` // IDs, in the order in which names are looked for
	Links     []Link   `json:"links,omitempty"`
	Servers   []Server `json:"servers,omitempty"` // in the order in which they are asked
	Forward   bool     `json:"forward,omitempty"` // false: what is none of ours is asked nowhere
}

// Link is a name that only one container knows another by.
type Link struct {
	Network   string `json:"network"` // ID
	Alias     string `json:"alias"`
	Container string `json:"container"` // ID of the one that is meant
}

// Server is an upstream DNS server.
type Server struct {
	Address netip.AddrPort `json:"address"`
	Host    bool           `json:"host,omitempty"` // asked from the host's namespace
}

// Endpoint is a container's presence on a network.
type Endpoint struct {
	ID          string       `json:"id"`
	Network     string       `json:"network"` // ID
	NetworkName string       `json:"networkName"`
	Container   string       `json:"container"`
	Addresses   []netip.Addr `json:"addresses,omitempty"` // at most one of each family
	Names       []string     `json:"names,omitempty"`     // the first is what addresses resolve to
}

// Answer is what gantry-net replies.
type Answer struct {
	Ports []uint16 `json:"ports,omitempty"` // as bound, one per Want
	IPv6  []bool   `json:"ipv6,omitempty"`  // whether every address of IPv6 is among them, one per Want
	Taken *Taken   `json:"taken,omitempty"`
	Deaf  bool     `json:"deaf,omitempty"` // the container's sockets are not here
	Error string   `json:"error,omitempty"`
}

// Taken says which Want failed and who is in the way.
type Taken struct {
	Index int    `json:"index"`
	Port  uint16 `json:"port"`
	Owner string `json:"owner,omitempty"` // a container of this engine
	Cause string `json:"cause,omitempty"` // otherwise the kernel's words
}
