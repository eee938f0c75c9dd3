// Package ipam manages addresses: which subnets networks have, and which of their addresses
// are in use. It keeps nothing on disk: subnets are recorded with the networks, addresses
// with the containers, and both are marked again at start.
package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Manager is the default address management of one engine.
type Manager struct {
	supplies []Supply
	routes   func() ([]netip.Prefix, error) // what the host routes already, of both families

	mu    sync.Mutex
	inUse map[netip.Prefix]string // by subnet: the network's name
}

// NewManager makes the address management. routes tells which subnets the host uses.
func NewManager(supplies []Supply, routes func() ([]netip.Prefix, error)) *Manager {
	return &Manager{supplies: supplies, routes: routes, inUse: map[netip.Prefix]string{}}
}

// Reserve implements networks.IPAM.
func (m *Manager) Reserve(_ context.Context, n *spec.Network) (networks.Space, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	pools := slices.Clone(n.Pools)
	for _, p := range pools {
		if err := m.free(p.Subnet.Masked(), n.Name); err != nil {
			return networks.Space{}, err
		}
	}
	for _, f := range []struct{ wanted, six bool }{{n.EnableIPv4, false}, {n.EnableIPv6, true}} {
		if !f.wanted || slices.ContainsFunc(pools, func(p spec.Pool) bool { return p.Subnet.Addr().Is6() == f.six }) {
			continue
		}
		subnet, err := m.pick(f.six, pools)
		if err != nil {
			return networks.Space{}, err
		}
		pools = append(pools, spec.Pool{Subnet: subnet, Chosen: true})
	}
	for i := range pools {
		pools[i].Subnet = pools[i].Subnet.Masked()
		if !pools[i].Gateway.IsValid() {
			pools[i].Gateway = firstFree(pools[i])
		}
	}
	space, err := spaceOf(pools, n)
	if err != nil {
		return space, err
	}
	for _, p := range pools {
		m.inUse[p.Subnet] = n.Name
	}
	n.Pools = pools
	return space, nil
}

// Hold notes the subnets of a network that is not reserved here: the default one.
func (m *Manager) Hold(n spec.Network) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range n.Pools {
		m.inUse[p.Subnet] = n.Name
	}
}

// spaceOf makes the address spaces of the families that the network has.
func spaceOf(pools []spec.Pool, n *spec.Network) (out networks.Space, err error) {
	var four, six []spec.Pool
	for _, p := range pools {
		if p.Subnet.Addr().Is4() {
			four = append(four, p)
		} else {
			six = append(six, p)
		}
	}
	if n.EnableIPv4 && len(four) > 0 {
		if out.V4, err = newSpace(four); err != nil {
			return out, err
		}
	}
	if n.EnableIPv6 && len(six) > 0 {
		if out.V6, err = newSpace(six); err != nil {
			return out, err
		}
	}
	return out, nil
}

func newSpace(pools []spec.Pool) (networks.Addresses, error) {
	s, err := NewSpace(pools)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Release implements networks.IPAM.
func (m *Manager) Release(_ context.Context, n spec.Network) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range n.Pools {
		if m.inUse[p.Subnet] == n.Name {
			delete(m.inUse, p.Subnet)
		}
	}
	return nil
}

// free tells who has a subnet, or part of it. The caller holds the lock.
func (m *Manager) free(subnet netip.Prefix, name string) error {
	for used, owner := range m.inUse {
		if used.Overlaps(subnet) && owner != name {
			return fmt.Errorf("invalid pool request: Pool overlaps with other one on this address space: subnet %s overlaps %s of network %s: %w", subnet, used, owner, errdefs.ErrPermissionDenied)
		}
	}
	return nil
}

func (m *Manager) pick(six bool, own []spec.Pool) (netip.Prefix, error) {
	used, err := m.routes()
	if err != nil {
		return netip.Prefix{}, err
	}
	for p := range m.inUse {
		used = append(used, p)
	}
	for _, p := range own {
		used = append(used, p.Subnet)
	}
	return Pick(m.supplies, six, used)
}

// firstFree is a pool's first address that nobody reserved: the gateway's where none is named.
func firstFree(p spec.Pool) netip.Addr {
	taken := map[netip.Addr]bool{}
	for _, a := range p.Aux {
		taken[a] = true
	}
	a := p.Subnet.Addr().Next()
	for taken[a] {
		a = a.Next()
	}
	return a
}
