package networks

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/gantry-engine/gantry/internal/spec"
)

// naming keeps the name service told of who is on which network. Without a name service it does nothing.
type naming struct {
	names Names
	nets  *catalog
}

// named tells whether a container is on a network that has names.
func named(eps []spec.Endpoint) bool {
	return slices.ContainsFunc(eps, func(ep spec.Endpoint) bool { return len(ep.Names) > 0 })
}

// sandbox is what a container may ask.
func (n naming) sandbox(container string, sb spec.Sandbox) spec.NameSandbox {
	out := spec.NameSandbox{Container: container, Servers: sb.Servers}
	for _, ep := range sb.Endpoints {
		known := n.nets.byID(ep.NetworkID)
		out.Forward = out.Forward || known == nil || !known.Internal
		if len(ep.Names) == 0 {
			continue
		}
		out.Networks = append(out.Networks, ep.NetworkID)
		for _, l := range ep.Links {
			out.Links = append(out.Links, spec.NameLink{Network: ep.NetworkID, Alias: l.Alias, Container: l.Container})
		}
	}
	return out
}

// endpoints are those that a container is found by.
func (n naming) endpoints(container string, sb spec.Sandbox) (out []spec.NameEndpoint) {
	for _, ep := range sb.Endpoints {
		if len(ep.Names) > 0 {
			out = append(out, n.endpoint(container, ep))
		}
	}
	return out
}

// endpoint is how others find a container.
func (n naming) endpoint(container string, ep spec.Endpoint) spec.NameEndpoint {
	out := spec.NameEndpoint{ID: ep.ID, Network: ep.NetworkID, NetworkName: ep.NetworkName, Container: container, Names: ep.Names}
	for _, p := range []netip.Prefix{ep.IPv4, ep.IPv6} {
		if p.IsValid() {
			out.Addresses = append(out.Addresses, p.Addr())
		}
	}
	return out
}

// begin has a container served, and known on its networks. What fails leaves nothing.
func (n naming) begin(ctx context.Context, container string, sb spec.Sandbox, prepared bool) error {
	if n.names == nil || !named(sb.Endpoints) {
		return nil
	}
	err := n.names.Serve(ctx, n.sandbox(container, sb), NamePlace{NetNS: sb.NetNS, Prepared: prepared}, n.endpoints(container, sb)...)
	if err != nil {
		return errors.Join(err, n.names.Gone(context.WithoutCancel(ctx), container))
	}
	return nil
}

// change brings what a running container may ask, and is known by, from one sandbox to another.
func (n naming) change(ctx context.Context, container string, from, to spec.Sandbox) error {
	switch {
	case n.names == nil || !named(from.Endpoints) && !named(to.Endpoints):
		return nil
	case !named(from.Endpoints):
		return n.begin(ctx, container, to, false)
	case !named(to.Endpoints):
		return n.names.Gone(ctx, container)
	}
	for _, ep := range from.Endpoints {
		if !slices.ContainsFunc(to.Endpoints, func(e spec.Endpoint) bool { return e.ID == ep.ID }) {
			if err := n.names.Leave(ctx, ep.ID); err != nil {
				return err
			}
		}
	}
	return n.names.Serve(ctx, n.sandbox(container, to), NamePlace{}, n.endpoints(container, to)...)
}

// restore notes what is true of a container that lived on.
func (n naming) restore(container string, sb spec.Sandbox) {
	if n.names == nil || !named(sb.Endpoints) {
		return
	}
	n.names.Restore(n.sandbox(container, sb), n.endpoints(container, sb))
}

// end takes back all that is known of a container.
func (n naming) end(ctx context.Context, container string, sb spec.Sandbox) error {
	if n.names == nil || !named(sb.Endpoints) {
		return nil
	}
	return n.names.Gone(ctx, container)
}
