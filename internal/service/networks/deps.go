package networks

import (
	"context"
	"iter"
	"net"
	"net/netip"
	"os"

	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/spec"
)

// Kind makes networks of one kind: bridge, macvlan, … Implementations are in driver/network.
type Kind interface {
	// Settle checks what a network to be made asks for, and fills in what it leaves open, but for addresses.
	// Nothing is made yet.
	Settle(n *spec.Network) error
	// New gives the driver of a settled network with its addresses. Nothing is made before Open.
	New(n spec.Network, addresses Space) (Driver, error)
	// Sweep takes away what networks of this kind left on the host that are no longer known.
	Sweep(ctx context.Context, known func(id string) bool) error
}

// Driver is one network. Its life: Open when it is created, and at start of the daemon;
// Restore for each container that lived on; Ready once all are restored; then
// Attach, Unplug and Detach in any order and at the same time; Close at the end.
type Driver interface {
	// Open makes or takes over what the network needs on the host.
	Open(ctx context.Context) error
	// Ready ends recovery: what no restored endpoint names is swept, pools may fill.
	Ready(ctx context.Context) error
	// Close stops pools; with remove it takes away all that Open made.
	Close(ctx context.Context, remove bool) error
	Endpoints
}

// Endpoints is the life of containers' interfaces on a network.
type Endpoints interface {
	// Attach makes an endpoint. Its interface goes into j.NetNS, or into a namespace
	// that comes with it (Attached.NetNS) if j.NetNS is nil. A namespace that comes with it has
	// default routes through the endpoint's gateways; one that is given keeps its own.
	Attach(ctx context.Context, j Join) (Attached, error)
	// Restore marks an endpoint of a former daemon's container as in use.
	Restore(ctx context.Context, ep spec.Endpoint) error
	// Unplug takes an endpoint's interface out of a namespace that lives on. Detach follows.
	Unplug(ctx context.Context, ep spec.Endpoint, ns *os.File) error
	// Detach gives the endpoint's addresses back. The interface goes with its namespace.
	Detach(ctx context.Context, ep spec.Endpoint) error
}

// Space is a network's addresses by family; nil for a family that it does not have.
type Space struct{ V4, V6 Addresses }

// Addresses are those of one family of one network.
type Addresses interface {
	// Next gives a free address with its subnet's length; errdefs.ErrResourceExhausted if there is none.
	Next() (netip.Prefix, error)
	// Take marks a certain address; errdefs.ErrAlreadyExists if it is in use.
	Take(a netip.Addr) (netip.Prefix, error)
	// Free gives an address back, Return one that nobody has used.
	Free(a netip.Addr)
	Return(a netip.Addr)
	// Counted tells how many there are, and how full each subnet is.
	Counted
}

// Counted is how many addresses there are.
type Counted interface {
	// Size is how many may be given out, 1<<30 for more.
	Size() int
	Status() map[netip.Prefix]spec.PoolStatus
}

// IPAM gives networks their subnets. Implemented by driver/network/ipam, and for plugins.
type IPAM interface {
	// Reserve settles n's pools: what they leave open is chosen, what others have is refused.
	Reserve(ctx context.Context, n *spec.Network) (Space, error)
	// Release gives the subnets back.
	Release(ctx context.Context, n spec.Network) error
}

// Plugins finds drivers that are other programs, by the names that are not those of built-in ones. Whether there is one of
// the name is asked with Settle or Reserve of a network that is being made: errdefs.ErrNotFound. Implemented by driver/network/remote.
type Plugins interface {
	Kind(name string) Kind
	IPAM(name string) IPAM
	// Sweep takes away what networks left that are no longer known.
	Sweep(ctx context.Context, known func(id string) bool) error
}

// Namespaces looks after containers' network namespaces as wholes. Implemented by driver/network/sandbox.
type Namespaces interface {
	// Of opens the namespace of a running process.
	Of(pid int) (*os.File, error)
	// Route makes the default routes those through the endpoints' gateways; nil takes a family's away.
	Route(ns *os.File, via4, via6 *spec.Endpoint) error
}

// Join is one endpoint wanted.
type Join struct {
	NetNS      *os.File // nil asks the driver to bring a namespace
	Interface  string   // name inside, "eth0"
	IPv4, IPv6 netip.Addr
	LinkLocal  []netip.Addr // further addresses
	MAC        net.HardwareAddr
	Options    map[string]string
	Ports      []spec.Port       // to be published, if the network does that itself: see Attached.Ports
	Admin      bool              // the container may change its addresses: see spec.SandboxRequest
	Sysctls    map[string]string // net.* settings, made in the namespace once the interface is there
}

// Attached is an endpoint as made. Names are filled in by the service, and the ID if the driver has given none.
type Attached struct {
	Endpoint spec.Endpoint
	// NetNS is the namespace that came with the endpoint; the caller closes it.
	// nil with a nil Join.NetNS means the host's own namespace.
	NetNS *os.File
	// Ports are those that the network publishes itself.
	Ports []spec.Port
	// Prepared says that names can be asked for in it: Names.Prepare has been called.
	Prepared bool
}

// Ports publishes containers' ports on the host. Implemented by driver/network/publish.
type Ports interface {
	// Publish reserves and opens the ports, all or none, and tells them as bound.
	// A *PortTakenError says who has one.
	Publish(ctx context.Context, container string, to spec.PortTarget, ports []spec.Port) ([]spec.Port, error)
	// Restore does the same for ports that a former daemon opened; it takes effect with Ready.
	Restore(ctx context.Context, container string, to spec.PortTarget, ports []spec.Port) error
	// Ready opens all restored ports at once and closes what nobody owns.
	Ready(ctx context.Context) error
	// Withdraw closes all ports of a container; nothing published is no error.
	Withdraw(ctx context.Context, container string) error
	// Close ends; with remove it takes away all rules.
	Close(ctx context.Context, remove bool) error
}

// Events publishes what happened. Implemented by service/events.
type Events interface {
	Publish(m events.Message)
}

// Records keeps networks. Implemented by store.Bucket.
type Records interface {
	// Save returns when the record is on disk.
	Save(ctx context.Context, id string, record []byte) error
	Remove(ctx context.Context, id string) error
	All(ctx context.Context) iter.Seq2[string, []byte]
}

// PortTakenError tells that a host port cannot be had.
type PortTakenError struct {
	Port  spec.Port // the one that failed, HostPort as tried
	Owner string    // ID of the container that has it; empty if it is a program of the host
	Cause string    // the kernel's text if Owner is empty
}

func (e *PortTakenError) Error() string { return e.text("") }
