package remote

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/driver/network/inside"
	"github.com/gantry-engine/gantry/internal/driver/network/ipam"
	"github.com/gantry-engine/gantry/internal/driver/network/plugin"
	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// driver is one network of a plugin. It implements networks.Driver.
type driver struct {
	f     *Finder
	p     *plugin.Plugin
	net   spec.Network
	space networks.Space

	mu       sync.Mutex
	made     bool            // the plugin has been asked to make it
	restored map[string]bool // endpoints of containers that lived on
}

// Open implements networks.Driver: a new network is made, of a recorded one the plugin knows.
func (d *driver) Open(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made {
		return nil
	}
	if err := d.f.journal.update(d.net.ID, func(n *networkNote) { n.Plugin = d.p.Name }); err != nil {
		return err
	}
	d.made = true
	generic := map[string]string{}
	for k, v := range d.net.Options {
		generic[k] = v
	}
	return d.p.Call(ctx, "NetworkDriver.CreateNetwork", createNetwork{
		NetworkID: d.net.ID,
		Options: map[string]any{
			"com.docker.network.generic": generic, "com.docker.network.internal": d.net.Internal,
			"com.docker.network.enable_ipv4": d.net.EnableIPv4, "com.docker.network.enable_ipv6": d.net.EnableIPv6,
		},
		IPv4Data: poolsOf(&d.net, false), IPv6Data: poolsOf(&d.net, true),
	}, nil)
}

// Ready implements networks.Driver: endpoints that nobody lives on are ended, behind the daemon's start.
func (d *driver) Ready(context.Context) error {
	eps, err := d.f.journal.endpoints(d.net.ID)
	for id := range eps {
		d.mu.Lock()
		lives := d.restored[id]
		d.mu.Unlock()
		if lives {
			continue
		}
		d.f.work.Go(func() {
			if err := d.end(context.Background(), id); err != nil {
				slog.Warn("an endpoint of a container that is gone stays with its plugin; it is tried again at the next start", "network", d.net.Name, "endpoint", id, "error", err)
			}
		})
	}
	return err
}

// Close implements networks.Driver.
func (d *driver) Close(ctx context.Context, remove bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !remove || !d.made {
		return nil
	}
	if err := d.p.Call(ctx, "NetworkDriver.DeleteNetwork", networkID{d.net.ID}, nil); !heard(err) {
		return err
	} else if err != nil {
		slog.Warn("a plugin did not like to delete a network, which is gone all the same", "network", d.net.Name, "error", err)
	}
	d.made = false
	return d.f.journal.update(d.net.ID, func(n *networkNote) { n.Plugin = "" })
}

// Attach implements networks.Driver.
func (d *driver) Attach(ctx context.Context, j networks.Join) (_ networks.Attached, err error) {
	var steps undo.Stack
	defer steps.OnError(ctx, &err)
	lease, err := ipam.Lend(d.space, j.IPv4, j.IPv6)
	if err != nil {
		return networks.Attached{}, err
	}
	steps.Push("addresses", func(context.Context) error { lease.Return(); return nil })
	ns := j.NetNS
	if ns == nil {
		if ns, err = inside.New(d.net.EnableIPv6); err != nil {
			return networks.Attached{}, err
		}
		steps.Push("network namespace", func(context.Context) error { return ns.Close() })
	}
	ep := spec.Endpoint{ID: newID(), IPv4: lease.Four, IPv6: lease.Six, MAC: j.MAC.String()}
	if err := d.f.journal.saveEndpoint(d.net.ID, ep.ID, endpointNote{}); err != nil {
		return networks.Attached{}, err
	}
	steps.Push("endpoint of plugin "+d.p.Name, func(ctx context.Context) error { return d.end(ctx, ep.ID) })
	options := map[string]any{}
	for k, v := range j.Options {
		options[k] = v
	}
	var made created
	if err := d.p.Call(ctx, "NetworkDriver.CreateEndpoint", createEndpoint{
		NetworkID: d.net.ID, EndpointID: ep.ID, Options: options, Interface: iface{Address: text(ep.IPv4), AddressIPv6: text(ep.IPv6), MacAddress: ep.MAC},
	}, &made); err != nil {
		return networks.Attached{}, err
	}
	if err := made.Interface.merge(&ep); err != nil {
		return networks.Attached{}, fmt.Errorf("plugin %s: NetworkDriver.CreateEndpoint: %w", d.p.Name, err)
	}
	var how joined
	key := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
	if err := d.p.Call(ctx, "NetworkDriver.Join", join{NetworkID: d.net.ID, EndpointID: ep.ID, SandboxKey: key, Options: options}, &how); err != nil {
		return networks.Attached{}, err
	}
	if err := d.plug(ns, j, &ep, how); err != nil {
		return networks.Attached{}, fmt.Errorf("plugin %s: NetworkDriver.Join: %w", d.p.Name, err)
	}
	a := networks.Attached{Endpoint: ep}
	if a.Ports, err = d.expose(ctx, ep.ID, j.Ports); err != nil {
		return networks.Attached{}, err
	}
	if j.NetNS == nil {
		a.NetNS = ns
	}
	return a, nil
}

// expose has the plugin publish ports, and gives those that it does: a plugin that does not know how publishes none.
func (d *driver) expose(ctx context.Context, endpoint string, ports []spec.Port) ([]spec.Port, error) {
	if len(ports) == 0 {
		return nil, nil
	}
	err := d.p.Call(ctx, "NetworkDriver.ProgramExternalConnectivity", program(d.net.ID, endpoint, ports), nil)
	if errors.Is(err, plugin.ErrNotImplemented) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []spec.Port
	for _, p := range ports {
		if p.HostPort == 0 { // the plugin chose, and the protocol does not say what
			continue
		}
		if !p.HostIP.IsValid() {
			p.HostIP = netip.IPv4Unspecified()
		}
		out = append(out, p)
	}
	return out, nil
}

// plug moves the interface that the plugin made into the container, and sets it up as the plugin said.
func (d *driver) plug(ns *os.File, j networks.Join, ep *spec.Endpoint, how joined) (err error) {
	if err := how.gateways(ep); err != nil {
		return err
	}
	routes, err := how.routes()
	if err != nil {
		return err
	}
	if how.InterfaceName == nil || how.InterfaceName.SrcName == "" {
		return netlink.SetSysctls(ns, j.Sysctls) // the plugin has done it itself, or there is none
	}
	source := how.InterfaceName.SrcName
	if ep.Interface, err = nameInside(ns, j, how); err != nil {
		return err
	}
	if !validInterface(source) {
		return fmt.Errorf("%q cannot be an interface's name: %w", clip(source), errdefs.ErrInternal)
	}
	if err := d.f.journal.saveEndpoint(d.net.ID, ep.ID, endpointNote{Source: source}); err != nil {
		return err
	}
	if err := move(source, ns, ep.Interface); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, back(ns, ep.Interface, source))
		}
	}()
	in := inside.Interface{Name: ep.Interface, Addresses: []netip.Prefix{ep.IPv4, ep.IPv6}, LinkLocal: j.LinkLocal, Foreign: j.NetNS != nil}
	if ep.MAC != "" {
		if in.MAC, err = net.ParseMAC(ep.MAC); err != nil {
			return err
		}
	}
	if j.NetNS == nil && !d.net.Internal {
		in.Gateways = []netip.Addr{ep.Gateway4, ep.Gateway6}
	}
	if d.net.Internal {
		ep.Gateway4, ep.Gateway6 = netip.Addr{}, netip.Addr{}
	}
	if err := inside.Set(ns, in); err != nil {
		return err
	}
	if err := addRoutes(ns, ep.Interface, routes); err != nil {
		return err
	}
	return netlink.SetSysctls(ns, j.Sysctls)
}

// optInterface is the user's name for the interface.
const optInterface = "com.docker.network.endpoint.ifname"

// nameInside is what the container's interface is called: as the user says, as the plugin says, or the plugin's prefix
// with the first number that is free.
func nameInside(ns *os.File, j networks.Join, how joined) (string, error) {
	said := how.InterfaceName
	switch {
	case j.Options[optInterface] != "" || said.DstName == "" && (said.DstPrefix == "" || said.DstPrefix == "eth"):
		return j.Interface, nil
	case said.DstName != "":
		if !validInterface(said.DstName) {
			return "", fmt.Errorf("%q cannot be an interface's name: %w", clip(said.DstName), errdefs.ErrInternal)
		}
		return said.DstName, nil
	}
	c, err := netlink.Open(ns)
	if err != nil {
		return "", err
	}
	defer c.Close()
	for i := range 1000 {
		name := fmt.Sprintf("%s%d", said.DstPrefix, i)
		if !validInterface(name) {
			break
		}
		if _, err := c.Link(name); errors.Is(err, os.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%q cannot be the beginning of an interface's name: %w", clip(said.DstPrefix), errdefs.ErrInternal)
}

// move takes an interface of the host into a container.
func move(source string, ns *os.File, name string) error {
	host, err := netlink.OpenForPairs()
	if err != nil {
		return err
	}
	defer host.Close()
	l, err := host.Link(source)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("interface %s, which is to be the container's, does not exist on the host: %w", source, errdefs.ErrInternal)
	}
	if err != nil {
		return err
	}
	if err := host.SetDown(l.Index); err != nil {
		return err
	}
	return host.MoveTo(l.Index, ns, name)
}

// back gives an interface back to the host, where its plugin looks for it. One that is gone is no error.
func back(ns *os.File, name, source string) error {
	home, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	c, err := netlink.OpenOwn(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.Link(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.SetDown(l.Index); err != nil {
		return err
	}
	return c.MoveTo(l.Index, home, source)
}

func addRoutes(ns *os.File, name string, routes []route) error {
	if len(routes) == 0 {
		return nil
	}
	c, err := netlink.Open(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.Link(name)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if err := c.AddRoute(l.Index, r.to, r.via); err != nil {
			return err
		}
	}
	return nil
}

// Restore implements networks.Driver.
func (d *driver) Restore(_ context.Context, ep spec.Endpoint) error {
	d.mu.Lock()
	d.restored[ep.ID] = true
	d.mu.Unlock()
	return ipam.Relend(d.space, ep)
}

// Unplug implements networks.Driver: the interface goes back to the host.
func (d *driver) Unplug(_ context.Context, ep spec.Endpoint, ns *os.File) error {
	if ep.Interface == "" {
		return nil
	}
	eps, err := d.f.journal.endpoints(d.net.ID)
	if err != nil {
		return err
	}
	if source := eps[ep.ID].Source; source != "" {
		return back(ns, ep.Interface, source)
	}
	return inside.Remove(ns, ep.Interface)
}

// Detach implements networks.Driver. What the plugin does not hear now it hears at the daemon's next start.
func (d *driver) Detach(ctx context.Context, ep spec.Endpoint) error {
	err := d.end(ctx, ep.ID)
	ipam.LeaseOf(d.space, ep).Free()
	return err
}

// end has the plugin end an endpoint, and forgets it.
func (d *driver) end(ctx context.Context, id string) error {
	err := leave(ctx, d.p, d.net.ID, id)
	if !heard(err) {
		return err
	}
	return errors.Join(err, d.f.journal.dropEndpoint(d.net.ID, id))
}

func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
