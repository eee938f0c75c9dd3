package firewall

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/containerd/errdefs"
)

// wanted is what the rules shall be: the networks and ports of the engine, and the
// set elements that follow from them. It is pure: nothing here asks the kernel.
type wanted struct {
	networks map[string]Network
	ports    map[Mapping]struct{}
	taken    map[place]Mapping
	// elements are counted, as several ports may need the same (8080 and 8081 both
	// lead to port 80 of one container).
	elements map[element]int
	cfg      Config
}

// place is what only one port can have.
type place struct {
	proto string
	addr  netip.AddrPort
}

func newWanted(cfg Config) *wanted {
	return &wanted{
		networks: map[string]Network{}, ports: map[Mapping]struct{}{}, taken: map[place]Mapping{},
		elements: map[element]int{}, cfg: cfg,
	}
}

// bridges are the networks' interfaces, sorted.
func (w *wanted) bridges() []string { return slices.Sorted(maps.Keys(w.networks)) }

// shape is what decides which chains and tables there are. A change of it needs all
// to be built again; every other change is one of set elements.
type shape struct{ v6, isolated4, isolated6 bool }

func (w *wanted) shape() (s shape) {
	for _, n := range w.networks {
		s.v6 = s.v6 || len(n.V6) > 0
		s.isolated4 = s.isolated4 || n.Mode4 == Isolated && len(n.V4) > 0
		s.isolated6 = s.isolated6 || n.Mode6 == Isolated && len(n.V6) > 0
	}
	return s
}

// change is the difference that a step makes to the elements.
type change struct{ add, remove []element }

func (c *change) empty() bool { return len(c.add)+len(c.remove) == 0 }

func (w *wanted) hold(c *change, es []element) {
	for _, e := range es {
		if w.elements[e]++; w.elements[e] == 1 {
			c.add = append(c.add, e)
		}
	}
}

func (w *wanted) drop(c *change, es []element) {
	for _, e := range es {
		if w.elements[e]--; w.elements[e] == 0 {
			delete(w.elements, e)
			c.remove = append(c.remove, e)
		}
	}
}

// addNetwork takes a network in. The same one again is no change; another one of
// the same bridge must be removed first.
func (w *wanted) addNetwork(n Network) (*change, error) {
	if err := n.check(); err != nil {
		return nil, err
	}
	if old, ok := w.networks[n.Bridge]; ok && reflect.DeepEqual(old, n) {
		return &change{}, nil
	} else if ok {
		return nil, fmt.Errorf("packet rules for bridge %s: there are some already: %w", n.Bridge, errdefs.ErrAlreadyExists)
	}
	for _, other := range w.networks {
		for _, p := range slices.Concat(n.V4, n.V6) {
			for _, q := range slices.Concat(other.V4, other.V6) {
				if p.Overlaps(q) {
					return nil, fmt.Errorf("packet rules for bridge %s: subnet %s overlaps %s of bridge %s: %w", n.Bridge, p, q, other.Bridge, errdefs.ErrAlreadyExists)
				}
			}
		}
	}
	c := &change{}
	w.networks[n.Bridge] = n
	w.hold(c, w.ofNetwork(n))
	return c, nil
}

// removeNetwork lets a network go, with all its ports.
func (w *wanted) removeNetwork(bridge string) (c *change, n Network, ports []Mapping) {
	c = &change{}
	n, ok := w.networks[bridge]
	if !ok {
		return c, n, nil
	}
	for m := range w.ports {
		if m.Bridge == bridge {
			ports = append(ports, m)
		}
	}
	w.removePorts(c, ports)
	w.drop(c, w.ofNetwork(n))
	delete(w.networks, bridge)
	return c, n, ports
}

// addPorts takes all ports in, or none.
func (w *wanted) addPorts(ports []Mapping) (_ *change, added []Mapping, err error) {
	c := &change{}
	for _, m := range ports {
		m, n, err := w.settle(m)
		if err == nil {
			err = w.free(m, n)
		}
		if err != nil {
			w.removePorts(&change{}, added)
			return nil, nil, err
		}
		if _, ok := w.ports[m]; ok {
			continue
		}
		w.ports[m] = struct{}{}
		if n.side(familyOf(m.Target.Addr())).mode != Routed {
			w.taken[m.place()] = m
		}
		added = append(added, m)
		w.hold(c, w.ofPort(m, n))
	}
	return c, added, nil
}

func (m Mapping) place() place { return place{m.Proto, netip.AddrPortFrom(m.host(), m.Port)} }

// removePorts lets ports go; what is not there is no error. Ports are given as they were added.
func (w *wanted) removePorts(c *change, ports []Mapping) (removed []Mapping) {
	for _, m := range ports {
		m, n, err := w.settle(m)
		if _, ok := w.ports[m]; err != nil || !ok {
			continue
		}
		w.drop(c, w.ofPort(m, n))
		delete(w.ports, m)
		if w.taken[m.place()] == m {
			delete(w.taken, m.place())
		}
		removed = append(removed, m)
	}
	return removed
}

// settle gives a port its one form, and its network.
func (w *wanted) settle(m Mapping) (Mapping, Network, error) {
	to := m.Target.Addr().Unmap()
	bad := func(why string, class error) (Mapping, Network, error) {
		return m, Network{}, fmt.Errorf("packet rules for published port %s to %s: %s: %w", m, m.Target, why, class)
	}
	if !to.IsValid() || to.IsUnspecified() || m.Target.Port() == 0 {
		return bad("a container's address and port are needed", errdefs.ErrInvalidArgument)
	}
	if _, ok := protocols[m.Proto]; !ok {
		return bad("tcp, udp or sctp is needed", errdefs.ErrInvalidArgument)
	}
	m.Target = netip.AddrPortFrom(to, m.Target.Port())
	m.Host = m.host()
	if familyOf(m.Host) != familyOf(to) {
		return bad("the packet rules cannot lead from one address family to the other", errdefs.ErrInvalidArgument)
	}
	if m.Bridge == "" {
		for _, n := range w.networks {
			if n.owns(to) {
				m.Bridge = n.Bridge
			}
		}
	}
	n, ok := w.networks[m.Bridge]
	if !ok {
		return bad("its network is not known here", errdefs.ErrNotFound)
	}
	s := n.side(familyOf(to))
	switch {
	case n.Internal:
		return bad("network "+n.Bridge+" is internal, nobody outside can be let in", errdefs.ErrInvalidArgument)
	case s.mode == Routed:
		m.Host, m.Port = netip.Addr{}, 0
	case m.Port == 0:
		return bad("a port of the host is needed", errdefs.ErrInvalidArgument)
	}
	return m, n, nil
}

// free refuses a port that leads elsewhere already.
func (w *wanted) free(m Mapping, n Network) error {
	if n.side(familyOf(m.Target.Addr())).mode == Routed {
		return nil
	}
	if other, ok := w.taken[m.place()]; ok && other != m {
		return fmt.Errorf("packet rules for published port %s to %s: it leads to %s already: %w", m, m.Target, other.Target, errdefs.ErrAlreadyExists)
	}
	return nil
}

// all are the elements of one family's sets, in a fixed order.
func (w *wanted) all(f *family) []element {
	es := slices.Collect(maps.Keys(w.elements))
	es = slices.DeleteFunc(es, func(e element) bool { return e.family != f })
	slices.SortFunc(es, element.compare)
	return es
}
