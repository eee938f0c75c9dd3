// Package ipam hands out the IPv4 addresses of one network. It keeps nothing on
// disk: what is taken is recorded with the containers and marked again at start.
package ipam

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/containerd/errdefs"
)

// Pool is the addresses of one network. Next goes round: an address given back is
// reused last, so that a neighbour's stale ARP entry does no harm.
type Pool struct {
	mu          sync.Mutex
	subnet      netip.Prefix
	first, last uint32 // of the range given out, inclusive
	next        uint32
	taken       map[uint32]bool
}

// New makes a pool of subnet that gives out addresses of within (a part of subnet,
// or the zero Prefix for all of it). Network address, broadcast address and
// reserved ones are never given out.
func New(subnet, within netip.Prefix, reserved ...netip.Addr) (*Pool, error) {
	subnet = subnet.Masked()
	if !subnet.IsValid() || !subnet.Addr().Is4() || subnet.Bits() > 30 {
		return nil, fmt.Errorf("subnet %s: an IPv4 subnet of /30 or larger is needed: %w", subnet, errdefs.ErrInvalidArgument)
	}
	if !within.IsValid() {
		within = subnet
	}
	within = within.Masked()
	if within.Bits() < subnet.Bits() || !subnet.Contains(within.Addr()) {
		return nil, fmt.Errorf("range %s is not part of subnet %s: %w", within, subnet, errdefs.ErrInvalidArgument)
	}
	p := &Pool{subnet: subnet, taken: map[uint32]bool{}}
	p.first, p.last = bounds(within)
	p.next = p.first
	low, high := bounds(subnet)
	p.taken[low], p.taken[high] = true, true
	for _, a := range reserved {
		if a.Is4() {
			p.taken[number(a)] = true
		}
	}
	return p, nil
}

// Next gives a free address; errdefs.ErrResourceExhausted if there is none.
func (p *Pool) Next() (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	size := uint64(p.last) - uint64(p.first) + 1
	for range size {
		n := p.next
		if p.next == p.last {
			p.next = p.first
		} else {
			p.next++
		}
		if !p.taken[n] {
			p.taken[n] = true
			return address(n), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no available IPv4 addresses on this network's address pool %s: all are in use: %w", p.subnet, errdefs.ErrResourceExhausted)
}

// Take marks a certain address; errdefs.ErrAlreadyExists if it is in use.
func (p *Pool) Take(a netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.subnet.Contains(a) {
		return fmt.Errorf("address %s is not in subnet %s: %w", a, p.subnet, errdefs.ErrInvalidArgument)
	}
	if p.taken[number(a)] {
		return fmt.Errorf("address %s of %s is already in use: %w", a, p.subnet, errdefs.ErrAlreadyExists)
	}
	p.taken[number(a)] = true
	return nil
}

// Free gives an address back.
func (p *Pool) Free(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.Is4() {
		delete(p.taken, number(a))
	}
}

// Return gives back an address that nobody has used. If it was the last one given out,
// it is the next one again: what was only prepared leaves no gap.
func (p *Pool) Return(a netip.Addr) {
	p.Free(a)
	p.mu.Lock()
	defer p.mu.Unlock()
	n := number(a)
	if n+1 == p.next || n == p.last && p.next == p.first {
		p.next = n
	}
}

// Size is how many addresses the range has.
func (p *Pool) Size() int { return int(p.last-p.first) + 1 }

func bounds(p netip.Prefix) (low, high uint32) {
	low = number(p.Addr())
	return low, low | uint32(1<<(32-p.Bits())-1)
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func address(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}
