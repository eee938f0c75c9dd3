package networks

import (
	"context"
	"net"
	"net/netip"
	"os"

	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/spec"
)

// Driver makes one kind of network. A driver's life: Open at start of the daemon;
// Restore for each container that lived on; Ready once all are restored; then
// Attach and Detach in any order and at the same time; Close at the end.
// Implementations are in driver/network.
type Driver interface {
	// Open makes or takes over what the network needs on the host, and tells how it is.
	Open(ctx context.Context) (Facts, error)
	// Ready ends recovery: what no restored endpoint names is swept, pools may fill.
	Ready(ctx context.Context) error
	// Close stops pools; with remove it takes away all that Open made.
	Close(ctx context.Context, remove bool) error
	// Attach makes an endpoint. Its interface goes into j.NetNS, or into a namespace
	// that comes with it (Attached.NetNS) if j.NetNS is nil.
	Attach(ctx context.Context, j Join) (Attached, error)
	Endpoints
}

// Endpoints is the later life of what Attach made.
type Endpoints interface {
	// Restore marks an endpoint of a former daemon's container as in use.
	Restore(ctx context.Context, ep spec.Endpoint) error
	// Detach gives the endpoint's addresses back. The interface goes with its namespace.
	Detach(ctx context.Context, ep spec.Endpoint) error
}

// Join is one endpoint wanted.
type Join struct {
	NetNS      *os.File // nil asks the driver to bring a namespace
	Interface  string   // name inside, "eth0"
	IPv4, IPv6 netip.Addr
	MAC        net.HardwareAddr
	Sysctls    map[string]string // net.* settings, made in the namespace once the interface is there
}

// Attached is an endpoint as made. IDs and names are filled in by the service.
type Attached struct {
	Endpoint spec.Endpoint
	// NetNS is the namespace that came with the endpoint; the caller closes it.
	// nil with a nil Join.NetNS means the host's own namespace.
	NetNS *os.File
}

// Facts is what inspect shows of a network.
type Facts struct {
	Subnet, Range netip.Prefix
	Gateway       netip.Addr
	IPAMDriver    string
	Options       map[string]string
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

// PortTakenError tells that a host port cannot be had.
type PortTakenError struct {
	Port  spec.Port // the one that failed, HostPort as tried
	Owner string    // ID of the container that has it; empty if it is a program of the host
	Cause string    // the kernel's text if Owner is empty
}

func (e *PortTakenError) Error() string { return e.text("") }
