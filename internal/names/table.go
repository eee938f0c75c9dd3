package names

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/gantry-engine/gantry/internal/netproto"
)

// table knows who is on which network under which names. An update costs as much as it has names, whatever else is in it.
type table struct {
	mu        sync.RWMutex
	networks  map[string]*network
	endpoints map[string]*endpoint
	members   map[string][]*endpoint // by container
	sandboxes map[string]*sandbox
}

// network is a space of names. It exists while somebody is on it.
type network struct {
	id, name   string // name in lower case
	used       int    // by sandboxes and endpoints
	names      map[string][]*endpoint
	addresses  map[netip.Addr]*endpoint
	containers map[string]*endpoint
}

// endpoint is a container on a network.
type endpoint struct {
	id, container string
	network       *network
	v4, v6        netip.Addr
	names         []string // in lower case
	pointer       []byte   // name.network in wire form, for PTR; nil if it cannot be written so
	alone         []*endpoint
}

// sandbox is what a container may ask. It is replaced as a whole, never changed.
type sandbox struct {
	container string
	networks  []membership
	servers   []netproto.Server
	forward   bool
}

// membership is a network with a container's own names for others on it.
type membership struct {
	network *network
	links   map[string]string // alias in lower case to container
}

func newTable() *table {
	return &table{
		networks: map[string]*network{}, endpoints: map[string]*endpoint{},
		members: map[string][]*endpoint{}, sandboxes: map[string]*sandbox{},
	}
}

// serve sets what a container may ask.
func (t *table) serve(want netproto.Sandbox) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sb := &sandbox{container: want.Container, forward: want.Forward}
	for _, s := range want.Servers {
		if !ourselves(s) {
			sb.servers = append(sb.servers, s)
		}
	}
	for _, id := range want.Networks {
		m := membership{network: t.use(id)}
		for _, l := range want.Links {
			if l.Network == id {
				if m.links == nil {
					m.links = map[string]string{}
				}
				m.links[folded(l.Alias)] = l.Container
			}
		}
		sb.networks = append(sb.networks, m)
	}
	t.forget(t.sandboxes[want.Container]) // after the new one took what both have
	t.sandboxes[want.Container] = sb
}

// ourselves tells whether asking a server would bring the question back to where it came from.
func ourselves(s netproto.Server) bool {
	return !s.Host && s.Address.Addr().Unmap() == netproto.ResolverAddress
}

func (t *table) forget(sb *sandbox) {
	if sb == nil {
		return
	}
	for _, m := range sb.networks {
		t.drop(m.network)
	}
}

func (t *table) use(id string) *network {
	n := t.networks[id]
	if n == nil {
		n = &network{id: id, names: map[string][]*endpoint{}, addresses: map[netip.Addr]*endpoint{}, containers: map[string]*endpoint{}}
		t.networks[id] = n
	}
	n.used++
	return n
}

func (t *table) drop(n *network) {
	if n.used--; n.used == 0 {
		delete(t.networks, n.id)
	}
}

// join adds an endpoint, or replaces the one with its ID.
func (t *table) join(want netproto.Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.use(want.Network)
	t.remove(want.ID)
	n.name = folded(want.NetworkName)
	ep := &endpoint{id: want.ID, container: want.Container, network: n}
	ep.alone = []*endpoint{ep}
	for _, a := range want.Addresses {
		a = a.Unmap().WithZone("")
		switch {
		case a.Is4():
			ep.v4 = a
		case a.Is6():
			ep.v6 = a
		default:
			continue
		}
		n.addresses[a] = ep
	}
	for _, name := range want.Names {
		name = strings.TrimSuffix(name, ".")
		if ep.pointer == nil {
			ep.pointer = wire(name + "." + want.NetworkName)
		}
		if name = folded(name); name != "" && !slices.Contains(ep.names, name) {
			ep.names = append(ep.names, name)
			n.names[name] = append(n.names[name], ep)
		}
	}
	n.containers[ep.container] = ep
	t.members[ep.container] = append(t.members[ep.container], ep)
	t.endpoints[ep.id] = ep
}

// leave takes an endpoint away; one that is not there is no error.
func (t *table) leave(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(id)
}

func (t *table) remove(id string) {
	ep := t.endpoints[id]
	if ep == nil {
		return
	}
	delete(t.endpoints, id)
	n := ep.network
	for _, name := range ep.names {
		without(n.names, name, ep)
	}
	without(t.members, ep.container, ep)
	for _, a := range []netip.Addr{ep.v4, ep.v6} {
		if n.addresses[a] == ep {
			delete(n.addresses, a)
		}
	}
	if n.containers[ep.container] == ep {
		delete(n.containers, ep.container)
	}
	t.drop(n)
}

// gone takes a container away with all its endpoints.
func (t *table) gone(container string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(t.sandboxes[container])
	delete(t.sandboxes, container)
	for _, ep := range slices.Clone(t.members[container]) {
		t.remove(ep.id)
	}
}

func without(all map[string][]*endpoint, key string, ep *endpoint) {
	if rest := slices.DeleteFunc(all[key], func(e *endpoint) bool { return e == ep }); len(rest) > 0 {
		all[key] = rest
	} else {
		delete(all, key)
	}
}

// keep drops every container and endpoint that is not listed, and tells which containers went.
func (t *table) keep(containers, endpoints []string) (dropped []string) {
	wanted := map[string]bool{}
	for _, id := range endpoints {
		wanted[id] = true
	}
	living := map[string]bool{}
	for _, id := range containers {
		living[id] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.endpoints {
		if !wanted[id] {
			t.remove(id)
		}
	}
	for id, sb := range t.sandboxes {
		if !living[id] {
			delete(t.sandboxes, id)
			t.forget(sb)
			dropped = append(dropped, id)
		}
	}
	return dropped
}

func (t *table) empty() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.sandboxes) == 0 && len(t.endpoints) == 0
}

// upstream tells whom a container's other questions go to; none with false: it may ask nobody.
func (t *table) upstream(container string) ([]netproto.Server, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	sb := t.sandboxes[container]
	if sb == nil || !sb.forward || len(sb.servers) == 0 {
		return nil, false
	}
	return sb.servers, true
}

// answer writes what is known about q into out, or returns nil: q is about nothing of ours. limit is the answer's largest
// size in bytes. The message holds no reference to the table.
func (t *table) answer(container string, q *question, out []byte, limit int) []byte {
	if !q.exact || q.class != classINET && q.class != classAny {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	sb := t.sandboxes[container]
	if sb == nil {
		return nil
	}
	var a answer
	if found := sb.find(q.name); found != nil {
		if q.edns && q.version != 0 {
			return refuse(q, out, rcodeVersion)
		}
		a.begin(q, out, limit)
		addresses(&a, q.kind, found)
		return a.end(q, rcodeSuccess)
	}
	at, ok := reverse(q.name)
	if !ok {
		return nil
	}
	for _, m := range sb.networks {
		if ep := m.network.addresses[at]; ep != nil {
			a.begin(q, out, limit)
			if q.kind == typePTR && ep.pointer != nil {
				a.record(typePTR, ep.pointer)
			}
			return a.end(q, rcodeSuccess)
		}
	}
	return nil
}

// addresses adds the addresses of one family, beginning with any. Chance and no counter chooses it: clients ask for both
// families in turn, and would meet the same one of two again and again.
func addresses(a *answer, kind uint16, found []*endpoint) {
	if kind != typeA && kind != typeAAAA {
		return
	}
	first := 0
	if len(found) > 1 {
		first = rand.IntN(len(found))
	}
	for i := range found {
		ep := found[(first+i)%len(found)]
		ip := ep.v4
		if kind == typeAAAA {
			ip = ep.v6
		}
		if ip.IsValid() {
			a.address(kind, ip)
		}
	}
}

// find looks for a name: as a link, as a name, and as either followed by a network's name; in the order of the container's
// networks. The first that has it answers alone.
func (sb *sandbox) find(name []byte) []*endpoint {
	for _, m := range sb.networks {
		if found := m.link(name); found != nil {
			return found
		}
	}
	for _, m := range sb.networks {
		if found := m.network.names[string(name)]; found != nil {
			return found
		}
	}
	for _, m := range sb.networks {
		cut := len(name) - len(m.network.name) - 1
		if cut < 1 || m.network.name == "" || name[cut] != '.' || string(name[cut+1:]) != m.network.name {
			continue
		}
		if found := m.link(name[:cut]); found != nil {
			return found
		}
		if found := m.network.names[string(name[:cut])]; found != nil {
			return found
		}
	}
	return nil
}

func (m *membership) link(name []byte) []*endpoint {
	if to, ok := m.links[string(name)]; ok {
		if ep := m.network.containers[to]; ep != nil {
			return ep.alone
		}
		return m.network.names[folded(to)] // a link to whoever has the name
	}
	return nil
}

// folded gives a name in lower case, as far as DNS knows cases: those of ASCII.
func folded(name string) string {
	b := []byte(name)
	for i, c := range b {
		b[i] = lower(c)
	}
	return string(b)
}

// wire writes a name as it travels, or gives nil if it cannot.
func wire(name string) []byte {
	out := make([]byte, 0, len(name)+2)
	for _, label := range strings.Split(name, ".") {
		if label == "" || len(label) > maxLabel {
			return nil
		}
		out = append(append(out, byte(len(label))), label...)
	}
	if len(out) >= maxName {
		return nil
	}
	return append(out, 0)
}
