package ipam

import (
	"net/netip"

	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Lease is a container's addresses on one network, one of each family that the network has.
type Lease struct {
	space     networks.Space
	Four, Six netip.Prefix // invalid: none of that family
}

// Lend takes a container's addresses out of a space: those named, or any.
func Lend(space networks.Space, four, six netip.Addr) (Lease, error) {
	l := Lease{space: space}
	get := func(a networks.Addresses, wanted netip.Addr) (netip.Prefix, error) {
		switch {
		case a == nil:
			return netip.Prefix{}, nil
		case wanted.IsValid():
			return a.Take(wanted)
		}
		return a.Next()
	}
	var err error
	if l.Four, err = get(space.V4, four); err != nil {
		return Lease{}, err
	}
	if l.Six, err = get(space.V6, six); err != nil {
		l.Six = netip.Prefix{}
		l.Return()
		return Lease{}, err
	}
	return l, nil
}

// Relend marks the addresses of an endpoint that a former daemon made.
func Relend(space networks.Space, ep spec.Endpoint) error {
	for _, f := range []struct {
		of networks.Addresses
		a  netip.Prefix
	}{{space.V4, ep.IPv4}, {space.V6, ep.IPv6}} {
		if f.of == nil || !f.a.IsValid() {
			continue
		}
		var err error
		if r, remote := f.of.(retaker); remote {
			err = r.Retake(f.a.Addr())
		} else {
			_, err = f.of.Take(f.a.Addr())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// retaker are addresses of somebody who remembers himself who has which.
type retaker interface {
	// Retake marks an address that was taken before the daemon's restart.
	Retake(a netip.Addr) error
}

// LeaseOf is what an endpoint has of a space.
func LeaseOf(space networks.Space, ep spec.Endpoint) Lease {
	return Lease{space: space, Four: ep.IPv4, Six: ep.IPv6}
}

// Return gives addresses back that nobody has used.
func (l Lease) Return() { l.each(networks.Addresses.Return) }

// Free gives addresses back that somebody has used: they are given out again as late as can be.
func (l Lease) Free() { l.each(networks.Addresses.Free) }

func (l Lease) each(do func(networks.Addresses, netip.Addr)) {
	if l.Four.IsValid() && l.space.V4 != nil {
		do(l.space.V4, l.Four.Addr())
	}
	if l.Six.IsValid() && l.space.V6 != nil {
		do(l.space.V6, l.Six.Addr())
	}
}
