package cni

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/gantry-engine/gantry/internal/driver/network/inside"
	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/service/networks"
	"github.com/gantry-engine/gantry/internal/spec"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// Attach implements networks.Driver.
func (d *driver) Attach(ctx context.Context, j networks.Join) (_ networks.Attached, err error) {
	list, err := d.kind.load(d.net.Options[optList])
	if err != nil {
		return networks.Attached{}, err
	}
	n := note{Network: d.net.ID, Container: newID(), Interface: j.Interface, List: list.Bytes}
	if err := d.wish(&n, list, j); err != nil {
		return networks.Attached{}, err
	}
	var steps undo.Stack
	defer steps.OnError(ctx, &err)
	ns := j.NetNS
	if ns == nil {
		if ns, err = inside.New(true); err != nil {
			return networks.Attached{}, err
		}
		steps.Push("network namespace", func(context.Context) error { return ns.Close() })
	}
	if err := d.taken(ns, j.Interface); err != nil {
		return networks.Attached{}, err
	}
	if err := d.kind.save(n); err != nil {
		return networks.Attached{}, err
	}
	at := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
	steps.Push("CNI network "+list.Name, func(ctx context.Context) error { return d.kind.end(ctx, n, at) })
	var result *types100.Result
	add := func() (err error) {
		result, err = d.add(ctx, list, n, at)
		return err
	}
	if j.NetNS != nil {
		err = inside.KeepDefaults(ns, add)
	} else {
		err = add()
	}
	if err != nil {
		return networks.Attached{}, err
	}
	ep, err := endpoint(result, n)
	if err != nil {
		return networks.Attached{}, fmt.Errorf("CNI network %s: %w", list.Name, err)
	}
	if err := finish(ns, j, ep, list.Name); err != nil {
		return networks.Attached{}, err
	}
	a := networks.Attached{Endpoint: ep, Ports: bound(j.Ports)}
	if j.NetNS == nil {
		a.NetNS = ns
	}
	return a, nil
}

// bound are ports as they are shown: portmap opens those that name no address at all of IPv4.
func bound(ports []spec.Port) (out []spec.Port) {
	for _, p := range ports {
		if !p.HostIP.IsValid() {
			p.HostIP = netip.IPv4Unspecified()
		}
		out = append(out, p)
	}
	return out
}

// taken refuses a name that an interface of the container has: plugins would take it for their own.
func (d *driver) taken(ns *os.File, name string) error {
	c, err := netlink.Open(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Link(name)
	if err == nil {
		return fmt.Errorf("the container has an interface %s already: %w", name, errdefs.ErrAlreadyExists)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (d *driver) add(ctx context.Context, list *libcni.NetworkConfigList, n note, at string) (*types100.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.kind.Patience, fmt.Errorf("no end within %s: %w", d.kind.Patience, errdefs.ErrUnavailable))
	defer cancel()
	raw, err := d.cni.AddNetworkList(ctx, list, &libcni.RuntimeConf{ContainerID: n.Container, NetNS: at, IfName: n.Interface, Args: n.Args, CapabilityArgs: n.Capabilities})
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, fmt.Errorf("CNI network %s: ADD: %w", list.Name, cause)
		}
		return nil, fmt.Errorf("CNI network %s: ADD: %w: %w", list.Name, err, errdefs.ErrInternal)
	}
	return types100.GetResult(raw)
}

// wish puts what a container asks for into what plugins are told, if the list has a plugin that understands it.
func (d *driver) wish(n *note, list *libcni.NetworkConfigList, j networks.Join) error {
	able := map[string]bool{}
	for _, p := range list.Plugins {
		for c, is := range p.Network.Capabilities {
			able[c] = able[c] || is
		}
	}
	n.Args, n.Capabilities = [][2]string{{"IgnoreUnknown", "1"}}, map[string]any{}
	var ips []string
	for _, a := range []netip.Addr{j.IPv4, j.IPv6} {
		if a.IsValid() {
			ips = append(ips, a.String())
		}
	}
	switch {
	case len(ips) > 0 && able["ips"]:
		n.Capabilities["ips"] = ips
	case len(ips) > 0:
		n.Args = append(n.Args, [2]string{"IP", ips[0]}) // host-local takes one without the capability
	}
	if len(j.MAC) > 0 {
		if !able["mac"] {
			return fmt.Errorf("CNI network %s has no plugin that gives chosen hardware addresses (capability mac): %w", list.Name, errdefs.ErrInvalidArgument)
		}
		n.Capabilities["mac"] = j.MAC.String()
	}
	if len(j.Ports) == 0 {
		return nil
	}
	if !able["portMappings"] {
		return fmt.Errorf("CNI network %s has no plugin that publishes ports (portmap, with the capability portMappings): %w", list.Name, errdefs.ErrInvalidArgument)
	}
	var ports []portMapping
	for _, p := range j.Ports {
		if p.HostPort == 0 || p.HostPortEnd > p.HostPort {
			return fmt.Errorf("publishing port %d/%s: CNI plugins publish at ports that are named, as 8080:%d: %w", p.ContainerPort, p.Proto, p.ContainerPort, errdefs.ErrInvalidArgument)
		}
		m := portMapping{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: p.Proto}
		if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
			m.HostIP = p.HostIP.String()
		}
		ports = append(ports, m)
	}
	n.Capabilities["portMappings"] = ports
	return nil
}

// portMapping is a published port, as the capability portMappings has it.
type portMapping struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// endpoint reads what plugins made. Of several addresses of a family the first counts.
func endpoint(r *types100.Result, n note) (spec.Endpoint, error) {
	ep := spec.Endpoint{ID: n.Container, Interface: n.Interface}
	for _, i := range r.Interfaces {
		if i.Name == n.Interface && i.Sandbox != "" {
			ep.MAC = i.Mac
		}
	}
	for _, ip := range r.IPs {
		if ip.Interface != nil && (*ip.Interface < 0 || *ip.Interface >= len(r.Interfaces) || r.Interfaces[*ip.Interface].Name != n.Interface) {
			continue
		}
		ones, _ := ip.Address.Mask.Size()
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return ep, fmt.Errorf("ADD gave %s, which is no address: %w", ip.Address.String(), errdefs.ErrInternal)
		}
		p := netip.PrefixFrom(a.Unmap(), ones)
		gateway, _ := netip.AddrFromSlice(ip.Gateway)
		switch {
		case p.Addr().Is4() && !ep.IPv4.IsValid():
			ep.IPv4, ep.Gateway4 = p, outward(r, gateway.Unmap(), false)
		case p.Addr().Is6() && !ep.IPv6.IsValid():
			ep.IPv6, ep.Gateway6 = p, outward(r, gateway, true)
		}
	}
	return ep, nil
}

// outward is the gateway of a family's default route, invalid if there is none.
func outward(r *types100.Result, gateway netip.Addr, six bool) netip.Addr {
	for _, route := range r.Routes {
		ones, bits := route.Dst.Mask.Size()
		if ones != 0 || (bits == 128) != six {
			continue
		}
		if a, ok := netip.AddrFromSlice(route.GW); ok {
			return a.Unmap()
		}
		return gateway
	}
	return netip.Addr{}
}

// finish gives an interface what plugins do not know of, and sees that they gave what was asked for.
func finish(ns *os.File, j networks.Join, ep spec.Endpoint, list string) error {
	for _, c := range []struct {
		want netip.Addr
		got  netip.Prefix
	}{{j.IPv4, ep.IPv4}, {j.IPv6, ep.IPv6}} {
		if c.want.IsValid() && c.want != c.got.Addr() {
			return fmt.Errorf("CNI network %s gave %s where %s was asked for: it does not take chosen addresses: %w", list, c.got, c.want, errdefs.ErrInvalidArgument)
		}
	}
	if mac, err := net.ParseMAC(ep.MAC); len(j.MAC) > 0 && (err != nil || mac.String() != j.MAC.String()) {
		return fmt.Errorf("CNI network %s gave hardware address %s where %s was asked for: %w", list, ep.MAC, j.MAC, errdefs.ErrInternal)
	}
	if len(j.LinkLocal) > 0 {
		if err := inside.AddLinkLocal(ns, j.Interface, j.LinkLocal); err != nil {
			return err
		}
	}
	return netlink.SetSysctls(ns, j.Sysctls)
}

// Restore implements networks.Driver: addresses are remembered by the plugins.
func (d *driver) Restore(_ context.Context, ep spec.Endpoint) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lives[ep.ID] {
		return fmt.Errorf("endpoint %s was restored before: %w", ep.ID, errdefs.ErrAlreadyExists)
	}
	d.lives[ep.ID] = true
	return nil
}

// Unplug implements networks.Driver.
func (d *driver) Unplug(ctx context.Context, ep spec.Endpoint, ns *os.File) error {
	err := d.detach(ctx, ep, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()))
	return errors.Join(err, inside.Remove(ns, ep.Interface))
}

// Detach implements networks.Driver. After Unplug there is nothing left to do.
func (d *driver) Detach(ctx context.Context, ep spec.Endpoint) error { return d.detach(ctx, ep, "") }

func (d *driver) detach(ctx context.Context, ep spec.Endpoint, netns string) error {
	d.mu.Lock()
	delete(d.lives, ep.ID)
	d.mu.Unlock()
	text, err := os.ReadFile(d.kind.path(ep.ID))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var n note
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	if err != nil {
		return err
	}
	return d.kind.end(ctx, n, netns)
}

func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
