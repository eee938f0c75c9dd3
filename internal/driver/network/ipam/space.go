package ipam

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/spec"
)

// Space is the addresses of one family of one network: those of all its subnets.
type Space struct{ pools []*Pool }

// NewSpace makes a space of a network's pools of one family. Gateways and auxiliary addresses are not given out.
func NewSpace(pools []spec.Pool) (*Space, error) {
	s := &Space{}
	for _, x := range pools {
		reserved := []netip.Addr{x.Gateway}
		for _, a := range x.Aux {
			reserved = append(reserved, a)
		}
		p, err := New(x.Subnet, x.Range, reserved...)
		if err != nil {
			return nil, err
		}
		s.pools = append(s.pools, p)
	}
	return s, nil
}

// Next implements networks.Addresses: the first subnet that has one gives it.
func (s *Space) Next() (netip.Prefix, error) {
	var last error
	for _, p := range s.pools {
		a, err := p.Next()
		if err == nil || !errdefs.IsResourceExhausted(err) {
			return a, err
		}
		last = errors.Join(last, err)
	}
	return netip.Prefix{}, last
}

// Take implements networks.Addresses.
func (s *Space) Take(a netip.Addr) (netip.Prefix, error) {
	if p := s.of(a); p != nil {
		return p.Take(a)
	}
	return netip.Prefix{}, fmt.Errorf("invalid IP address %s: it is in none of the network's subnets (%s): %w", a, s, errdefs.ErrInvalidArgument)
}

// Free implements networks.Addresses.
func (s *Space) Free(a netip.Addr) {
	if p := s.of(a); p != nil {
		p.Free(a)
	}
}

// Return implements networks.Addresses.
func (s *Space) Return(a netip.Addr) {
	if p := s.of(a); p != nil {
		p.Return(a)
	}
}

// Size implements networks.Addresses.
func (s *Space) Size() int {
	n := 0
	for _, p := range s.pools {
		n = min(n+p.Size(), 1<<30)
	}
	return n
}

// Status implements networks.Addresses.
func (s *Space) Status() map[netip.Prefix]spec.PoolStatus {
	out := map[netip.Prefix]spec.PoolStatus{}
	for _, p := range s.pools {
		p.mu.Lock()
		out[p.subnet] = spec.PoolStatus{InUse: uint64(len(p.taken)), Available: uint64(p.size() - p.busy)}
		p.mu.Unlock()
	}
	return out
}

func (s *Space) of(a netip.Addr) *Pool {
	for _, p := range s.pools {
		if p.subnet.Contains(a) {
			return p
		}
	}
	return nil
}

// String lists the subnets.
func (s *Space) String() string {
	text := ""
	for i, p := range s.pools {
		if i > 0 {
			text += ", "
		}
		text += p.subnet.String()
	}
	return text
}
