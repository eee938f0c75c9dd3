package networks

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/spec"
)

// members are the containers that are on networks, and whether more may come.
type members struct {
	name func(container string) string // the present name by ID; may be nil

	mu       sync.Mutex
	attached map[string]attachment // by container
	ready    bool
}

// attachment is what a container has.
type attachment struct {
	name    string
	admin   bool // it may change its addresses
	sandbox spec.Sandbox
}

// open lets containers come.
func (m *members) open() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ready = true
}

// close lets no more come, and tells whether any are left.
func (m *members) close() (left bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ready = false
	return len(m.attached) > 0
}

// admit tells what keeps a container from being attached now.
func (m *members) admit(container string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ready {
		return fmt.Errorf("networks are not ready: the daemon is starting or stopping: %w", errdefs.ErrUnavailable)
	}
	if _, twice := m.attached[container]; twice {
		return fmt.Errorf("container %s is attached to its networks already: %w", container, errdefs.ErrAlreadyExists)
	}
	return nil
}

func (m *members) remember(container string, a attachment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attached[container] = a
}

// of is what a container has now.
func (m *members) of(container string) (attachment, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.attached[container]
	return a, ok
}

// forget ends a container's membership and gives the sandbox that it had. If it has
// another one than sandbox by now, nothing happens; "" is whichever it has.
func (m *members) forget(container, sandbox string) (spec.Sandbox, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.attached[container]
	if !ok || sandbox != "" && sandbox != a.sandbox.ID {
		return spec.Sandbox{}, false
	}
	delete(m.attached, container)
	return a.sandbox, true
}

// on gives the endpoints on a network, by container.
func (m *members) on(network string) map[string]spec.Endpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]spec.Endpoint{}
	for id, a := range m.attached {
		for _, ep := range a.sandbox.Endpoints {
			if ep.NetworkID == network {
				out[id] = ep
			}
		}
	}
	return out
}

// nameOf is a container's present name, or the one it was attached under.
func (m *members) nameOf(container string) string {
	if container == "" {
		return ""
	}
	if m.name != nil {
		if n := m.name(container); n != "" {
			return strings.TrimPrefix(n, "/")
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.attached[container].name
}

// onText names the containers on a network, for errors.
func (m *members) onText(network string) string {
	var text []string
	for id, ep := range m.on(network) {
		text = append(text, fmt.Sprintf("name:%q id:%q", m.nameOf(id), ep.ID[:min(12, len(ep.ID))]))
	}
	slices.Sort(text)
	if len(text) == 0 {
		return ""
	}
	return " (" + strings.Join(text, ", ") + ")"
}

// holder names the container that has an address on a network, or "".
func (m *members) holder(network string, a netip.Addr) string {
	for id, ep := range m.on(network) {
		if ep.IPv4.Addr() == a || ep.IPv6.Addr() == a {
			return m.nameOf(id)
		}
	}
	return ""
}
