package ipam

import (
	"fmt"
	"math"
	"net/netip"
	"sync"

	"github.com/containerd/errdefs"
)

// Pool is the addresses of one subnet, of either family. Next goes round: an address given back is
// reused last, so that a neighbour's stale ARP entry does no harm.
type Pool struct {
	mu          sync.Mutex
	subnet      netip.Prefix
	first, last netip.Addr // of the range given out, inclusive
	next        netip.Addr
	taken       map[netip.Addr]bool
	busy        int // how many of the range are taken
}

// New makes a pool of subnet that gives out addresses of within (a part of subnet,
// or the zero Prefix for all of it). Network address, broadcast address and
// reserved ones are never given out.
func New(subnet, within netip.Prefix, reserved ...netip.Addr) (*Pool, error) {
	subnet = subnet.Masked()
	if !subnet.IsValid() || subnet.Bits() > subnet.Addr().BitLen()-2 {
		return nil, fmt.Errorf("subnet %s: a subnet of four addresses (/30 for IPv4, /126 for IPv6) or more is needed: %w", subnet, errdefs.ErrInvalidArgument)
	}
	if !within.IsValid() {
		within = subnet
	}
	within = within.Masked()
	if within.Bits() < subnet.Bits() || !subnet.Contains(within.Addr()) {
		return nil, fmt.Errorf("range %s is not part of subnet %s: %w", within, subnet, errdefs.ErrInvalidArgument)
	}
	p := &Pool{subnet: subnet, first: within.Addr(), last: last(within), taken: map[netip.Addr]bool{}}
	p.next = p.first
	p.mark(subnet.Addr())
	if subnet.Addr().Is4() { // IPv6 has no broadcast
		p.mark(last(subnet))
	}
	for _, a := range reserved {
		if subnet.Contains(a) {
			p.mark(a)
		}
	}
	return p, nil
}

// mark takes an address. The caller holds the lock, or is alone.
func (p *Pool) mark(a netip.Addr) {
	if !p.taken[a] {
		p.taken[a] = true
		if p.inRange(a) {
			p.busy++
		}
	}
}

func (p *Pool) inRange(a netip.Addr) bool { return !a.Less(p.first) && !p.last.Less(a) }

// full tells whether no address of the range is free. The caller holds the lock.
func (p *Pool) full() bool { return p.busy >= p.size() }

// Next gives a free address with the subnet's length; errdefs.ErrResourceExhausted if there is none.
func (p *Pool) Next() (netip.Prefix, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full() {
		return netip.Prefix{}, fmt.Errorf("no available %s addresses on this network's address pool %s: all are in use: %w", family(p.subnet.Addr()), p.subnet, errdefs.ErrResourceExhausted)
	}
	for {
		a := p.next
		if p.next == p.last {
			p.next = p.first
		} else {
			p.next = p.next.Next()
		}
		if !p.taken[a] {
			p.mark(a)
			return netip.PrefixFrom(a, p.subnet.Bits()), nil
		}
	}
}

// Take marks a certain address; errdefs.ErrAlreadyExists if it is in use.
func (p *Pool) Take(a netip.Addr) (netip.Prefix, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.subnet.Contains(a) {
		return netip.Prefix{}, fmt.Errorf("address %s is not in subnet %s: %w", a, p.subnet, errdefs.ErrInvalidArgument)
	}
	if p.taken[a] {
		return netip.Prefix{}, fmt.Errorf("address %s of %s is already in use: %w", a, p.subnet, errdefs.ErrAlreadyExists)
	}
	p.mark(a)
	return netip.PrefixFrom(a, p.subnet.Bits()), nil
}

// Free gives an address back.
func (p *Pool) Free(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free(a)
}

func (p *Pool) free(a netip.Addr) {
	if p.taken[a] {
		delete(p.taken, a)
		if p.inRange(a) {
			p.busy--
		}
	}
}

// Return gives back an address that nobody has used. If it was the last one given out,
// it is the next one again: what was only prepared leaves no gap.
func (p *Pool) Return(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free(a)
	if a.Next() == p.next || a == p.last && p.next == p.first {
		p.next = a
	}
}

// Size is how many addresses the range has, or the largest int32 if there are more.
func (p *Pool) Size() int { return p.size() }

func (p *Pool) size() int {
	low, high := p.first.As16(), p.last.As16()
	n := uint64(0)
	for i := range low { // a range is a whole prefix: the differing bits are the last ones, all set in high
		n = n<<8 | uint64(high[i]^low[i])
		if n > math.MaxInt32 {
			return math.MaxInt32
		}
	}
	return int(n) + 1
}

// last is a prefix's last address.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}
