//go:build linux

package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/plugin"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
)

// addresses is one plugin's address management. It implements networks.IPAM.
type addresses struct {
	f *Finder
	p *plugin.Plugin
}

// optGateway marks in an answer, or in what an address is asked for, the network's gateway.
const (
	optGateway     = "com.docker.network.gateway"
	optAddressType = "RequestAddressType"
)

type (
	requestPool struct {
		AddressSpace, Pool, SubPool string
		Options                     map[string]string
		V6                          bool
	}
	pool struct {
		PoolID, Pool string
		Data         map[string]string
	}
	poolID         struct{ PoolID string }
	requestAddress struct {
		PoolID, Address string
		Options         map[string]string
	}
	given          struct{ Address string }
	releaseAddress struct{ PoolID, Address string }
)

// Reserve implements networks.IPAM. Of a recorded network the plugin was asked before.
func (a addresses) Reserve(ctx context.Context, n *spec.Network) (networks.Space, error) {
	if n.Recorded {
		note, err := a.f.journal.network(n.ID)
		if err != nil {
			return networks.Space{}, err
		}
		return a.space(n, note.Pools), nil
	}
	where, err := a.ask(ctx)
	if err != nil {
		return networks.Space{}, err
	}
	wanted := slices.Clone(n.Pools)
	for _, f := range []struct{ on, six bool }{{n.EnableIPv4, false}, {n.EnableIPv6, true}} {
		if f.on && !slices.ContainsFunc(wanted, func(p spec.Pool) bool { return p.Subnet.Addr().Is6() == f.six }) {
			any4or6 := netip.IPv4Unspecified()
			if f.six {
				any4or6 = netip.IPv6Unspecified()
			}
			wanted = append(wanted, spec.Pool{Subnet: netip.PrefixFrom(any4or6, 0), Chosen: true})
		}
	}
	if err := a.f.journal.update(n.ID, func(note *networkNote) { note.IPAM, note.Pools = a.p.Name, nil }); err != nil {
		return networks.Space{}, err
	}
	var refs []poolRef
	pools, err := a.request(ctx, where, n.IPAM.Options, wanted, &refs)
	if err == nil {
		err = a.f.journal.update(n.ID, func(note *networkNote) { note.Pools = refs })
	}
	if err != nil {
		back := release(context.WithoutCancel(ctx), a.p, refs)
		return networks.Space{}, errors.Join(err, back, a.f.journal.update(n.ID, func(note *networkNote) { note.IPAM = "" }))
	}
	n.Pools = pools
	return a.space(n, refs), nil
}

// ask finds out what the plugin is able to do, and which address space is ours.
func (a addresses) ask(ctx context.Context) (space string, err error) {
	if err := a.p.Activate(ctx, "IpamDriver"); err != nil {
		return "", err
	}
	var able struct{ RequiresMACAddress bool }
	if err := a.p.Call(ctx, "IpamDriver.GetCapabilities", nil, &able); err != nil && !errors.Is(err, plugin.ErrNotImplemented) {
		return "", err
	}
	if able.RequiresMACAddress {
		return "", fmt.Errorf("plugin %s wants to know the hardware address before it gives an IP address; here the one is made of the other: %w", a.p.Name, errdefs.ErrNotImplemented)
	}
	var spaces struct{ LocalDefaultAddressSpace string }
	err = a.p.Call(ctx, "IpamDriver.GetDefaultAddressSpaces", nil, &spaces)
	return spaces.LocalDefaultAddressSpace, err
}

// request asks for pools, their gateways and auxiliary addresses. refs has what was given, also if that fails.
func (a addresses) request(ctx context.Context, where string, options map[string]string, wanted []spec.Pool, refs *[]poolRef) ([]spec.Pool, error) {
	for i := range wanted {
		w := &wanted[i]
		ask := requestPool{AddressSpace: where, Options: options, V6: w.Subnet.Addr().Is6()}
		if !w.Chosen {
			ask.Pool = w.Subnet.String()
		}
		if w.Range.IsValid() {
			ask.SubPool = w.Range.String()
		}
		var got pool
		if err := a.p.Call(ctx, "IpamDriver.RequestPool", ask, &got); err != nil {
			return nil, err
		}
		*refs = append(*refs, poolRef{ID: got.PoolID})
		ref := &(*refs)[len(*refs)-1]
		subnet, err := netip.ParsePrefix(got.Pool)
		if err != nil || subnet.Addr().Is6() != ask.V6 || !w.Chosen && subnet.Masked() != w.Subnet || got.PoolID == "" {
			return nil, fmt.Errorf("plugin %s: IpamDriver.RequestPool: pool %q (%q) was given where %q was asked for: %w", a.p.Name, clip(got.Pool), clip(got.PoolID), ask.Pool, errdefs.ErrInternal)
		}
		w.Subnet, ref.Subnet = subnet.Masked(), subnet.Masked().String()
		if err := a.fixed(ctx, ref, w, got.Data[optGateway]); err != nil {
			return nil, err
		}
	}
	return wanted, nil
}

// fixed asks for the addresses that a pool's network has itself.
func (a addresses) fixed(ctx context.Context, ref *poolRef, w *spec.Pool, gateway string) error {
	take := func(want string, options map[string]string) (netip.Addr, error) {
		got, err := a.address(ctx, ref.ID, w.Subnet, want, options)
		if err == nil {
			ref.Addresses = append(ref.Addresses, got.Addr().String())
		}
		return got.Addr(), err
	}
	if p, err := netip.ParsePrefix(gateway); err == nil && !w.Gateway.IsValid() {
		w.Gateway = p.Addr() // the plugin keeps it
	} else {
		want := ""
		if w.Gateway.IsValid() {
			want = w.Gateway.String()
		}
		if w.Gateway, err = take(want, map[string]string{optAddressType: optGateway}); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.Aux)) {
		if _, err := take(w.Aux[name].String(), nil); err != nil {
			return err
		}
	}
	return nil
}

// address asks for one address, any if want is empty, and sees that the answer can be one.
func (a addresses) address(ctx context.Context, id string, subnet netip.Prefix, want string, options map[string]string) (netip.Prefix, error) {
	var got given
	if err := a.p.Call(ctx, "IpamDriver.RequestAddress", requestAddress{id, want, options}, &got); err != nil {
		return netip.Prefix{}, err
	}
	p, err := netip.ParsePrefix(got.Address)
	if err != nil || !subnet.Contains(p.Addr()) || want != "" && p.Addr().String() != want {
		return netip.Prefix{}, fmt.Errorf("plugin %s: IpamDriver.RequestAddress: %q was given, an address of %s was asked for (%q): %w", a.p.Name, clip(got.Address), subnet, want, errdefs.ErrInternal)
	}
	return p, nil
}

// Release implements networks.IPAM.
func (a addresses) Release(ctx context.Context, n spec.Network) error {
	note, err := a.f.journal.network(n.ID)
	if err != nil {
		return err
	}
	if err := release(ctx, a.p, note.Pools); !heard(err) {
		return err // the next start tries again
	} else if err != nil {
		slog.Warn("a plugin did not take a network's addresses back", "network", n.Name, "plugin", a.p.Name, "error", err)
	}
	return a.f.journal.update(n.ID, func(note *networkNote) { note.IPAM, note.Pools = "", nil })
}

// release gives pools back, with what the network itself has of them. It ends with the first that the plugin does not hear.
func release(ctx context.Context, p *plugin.Plugin, pools []poolRef) error {
	var said []error
	for _, ref := range pools {
		for _, a := range ref.Addresses {
			err := p.Call(ctx, "IpamDriver.ReleaseAddress", releaseAddress{ref.ID, a}, nil)
			if !heard(err) {
				return err
			}
			said = append(said, err)
		}
		err := p.Call(ctx, "IpamDriver.ReleasePool", poolID{ref.ID}, nil)
		if !heard(err) {
			return err
		}
		said = append(said, err)
	}
	return errors.Join(said...)
}

// space makes the spaces of a network's families.
func (a addresses) space(n *spec.Network, refs []poolRef) (out networks.Space) {
	for _, six := range []bool{false, true} {
		s := &space{a: a, used: map[netip.Addr]string{}}
		for _, p := range n.Pools {
			i := slices.IndexFunc(refs, func(r poolRef) bool { return r.Subnet == p.Subnet.String() })
			if p.Subnet.Addr().Is6() == six && i >= 0 {
				s.pools = append(s.pools, heldPool{refs[i].ID, p.Subnet})
			}
		}
		switch {
		case len(s.pools) == 0:
		case six:
			out.V6 = s
		default:
			out.V4 = s
		}
	}
	return out
}

type heldPool struct {
	id     string
	subnet netip.Prefix
}

// space is the addresses of one family of a network. The plugin gives them; here stands who has which, so that it cannot give
// one twice. It implements networks.Addresses.
type space struct {
	a     addresses
	pools []heldPool

	mu   sync.Mutex
	used map[netip.Addr]string // the pool's ID
}

// Next implements networks.Addresses: the first pool that has one gives it.
func (s *space) Next() (netip.Prefix, error) {
	var errs []error
	for _, p := range s.pools {
		got, err := s.a.address(context.Background(), p.id, p.subnet, "", nil)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := s.mark(got.Addr(), p.id); err != nil {
			return netip.Prefix{}, fmt.Errorf("plugin %s gave an address twice: %w", s.a.p.Name, err)
		}
		return netip.PrefixFrom(got.Addr(), p.subnet.Bits()), nil
	}
	return netip.Prefix{}, errors.Join(errs...)
}

// Take implements networks.Addresses.
func (s *space) Take(a netip.Addr) (netip.Prefix, error) {
	for _, p := range s.pools {
		if !p.subnet.Contains(a) {
			continue
		}
		if err := s.mark(a, p.id); err != nil {
			return netip.Prefix{}, err
		}
		if _, err := s.a.address(context.Background(), p.id, p.subnet, a.String(), nil); err != nil {
			s.unmark(a)
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(a, p.subnet.Bits()), nil
	}
	return netip.Prefix{}, fmt.Errorf("invalid IP address %s: it is in none of the network's subnets: %w", a, errdefs.ErrInvalidArgument)
}

// Retake marks an address that was taken before the daemon's restart: the plugin knows.
func (s *space) Retake(a netip.Addr) error {
	for _, p := range s.pools {
		if p.subnet.Contains(a) {
			return s.mark(a, p.id)
		}
	}
	return nil
}

func (s *space) mark(a netip.Addr, pool string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.used[a]; taken {
		return fmt.Errorf("address %s is already in use: %w", a, errdefs.ErrAlreadyExists)
	}
	s.used[a] = pool
	return nil
}

func (s *space) unmark(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.used, a)
}

// Free implements networks.Addresses. A plugin that does not take one back keeps it: nobody gets it before.
func (s *space) Free(a netip.Addr) {
	s.mu.Lock()
	id, was := s.used[a]
	s.mu.Unlock()
	if !was {
		return
	}
	if err := s.a.p.Call(context.Background(), "IpamDriver.ReleaseAddress", releaseAddress{id, a.String()}, nil); err != nil {
		slog.Warn("a plugin did not take an address back", "address", a, "error", err)
	}
	s.unmark(a)
}

// Return implements networks.Addresses.
func (s *space) Return(a netip.Addr) { s.Free(a) }

// Size implements networks.Addresses: as many as the plugin likes.
func (s *space) Size() int { return 1 << 30 }

// Status implements networks.Addresses.
func (s *space) Status() map[netip.Prefix]spec.PoolStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[netip.Prefix]spec.PoolStatus{}
	for _, p := range s.pools {
		st := spec.PoolStatus{}
		for a := range s.used {
			if p.subnet.Contains(a) {
				st.InUse++
			}
		}
		out[p.subnet] = st
	}
	return out
}
