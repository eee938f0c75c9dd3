package networks

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/spec"
)

// sandboxes puts containers' sandboxes together, changes them and takes them apart: endpoints of the
// drivers, default routes, published ports. It implements containers.Networks, with the resolver.
type sandboxes struct {
	nets       *catalog
	members    *members
	namespaces Namespaces
	ports      Ports
	naming     naming
	servers    func(asked []netip.Addr) []spec.NameServer // whom a container asks for other names
	announce   announcer
}

// Check implements containers.Networks. That a network exists is asked at start only, as
// Docker does: clients take a 404 to create for a missing image.
func (s *sandboxes) Check(_ context.Context, req spec.SandboxRequest) error {
	if err := checkPorts(req.Ports); err != nil {
		return err
	}
	for _, e := range req.Endpoints {
		n, err := s.nets.find(e.Network)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if alone(n) && len(req.Endpoints) > 1 {
			return fmt.Errorf("container cannot be connected to network %s and to others: %w", n.Name, errdefs.ErrInvalidArgument)
		}
		if err := checkEndpoint(n, e); err != nil {
			return err
		}
	}
	return nil
}

// Attach implements containers.Networks.
func (s *sandboxes) Attach(ctx context.Context, req spec.SandboxRequest) (_ spec.Sandbox, err error) {
	if err := s.Check(ctx, req); err != nil {
		return spec.Sandbox{}, err
	}
	if err := s.members.admit(req.Container); err != nil {
		return spec.Sandbox{}, err
	}
	if len(req.Endpoints) == 0 {
		req.Endpoints = []spec.EndpointRequest{{Network: "default"}}
	}
	var steps undo.Stack
	defer steps.OnError(ctx, &err)
	sb, prepared := spec.Sandbox{ID: newID()}, false
	for i, want := range req.Endpoints {
		var sysctls map[string]string
		if i == len(req.Endpoints)-1 { // some name an interface, which must be there
			sysctls = req.Sysctls
		}
		ep, leave, ready, err := s.join(ctx, &sb, want, req, sysctls)
		if err != nil {
			return spec.Sandbox{}, err
		}
		prepared = prepared || ready
		steps.Push("endpoint on "+ep.NetworkName, leave)
		if i == 0 {
			ns := sb.NetNS
			steps.Push("network namespace", func(context.Context) error { return closeNS(ns) })
		}
	}
	if via4, via6 := gateways(sb.Endpoints); len(sb.Endpoints) > 1 {
		if err := s.route(sb.NetNS, sb.Endpoints[:1], via4, via6); err != nil {
			return spec.Sandbox{}, err
		}
	}
	if err := s.publish(ctx, req, &sb); err != nil {
		return spec.Sandbox{}, err
	}
	if named(sb.Endpoints) {
		sb.Servers = s.servers(req.DNS)
	}
	if err := s.naming.begin(ctx, req.Container, sb, prepared); err != nil {
		return spec.Sandbox{}, errors.Join(fmt.Errorf("names of container %s: %w", req.Name, err), s.ports.Withdraw(context.WithoutCancel(ctx), req.Container))
	}
	s.members.remember(req.Container, attachment{req.Name, req.Admin, sb})
	for _, ep := range sb.Endpoints {
		s.announce.member("connect", ep, req.Container)
	}
	return sb, nil
}

// join makes one endpoint and adds it to the sandbox. leave undoes it, but for the interface, which goes with the namespace.
func (s *sandboxes) join(ctx context.Context, sb *spec.Sandbox, want spec.EndpointRequest, req spec.SandboxRequest, sysctls map[string]string) (_ spec.Endpoint, leave func(context.Context) error, prepared bool, err error) {
	ref := want.Network
	if ref == "bridge" && !s.nets.bridged() { // --bridge none: who names no network gets none
		ref = "default"
	}
	n, err := s.nets.find(ref)
	if err != nil {
		return spec.Endpoint{}, nil, false, err
	}
	j := Join{NetNS: sb.NetNS, IPv4: want.IPv4, IPv6: want.IPv6, LinkLocal: want.LinkLocal, MAC: want.MAC, Options: want.DriverOpts, Admin: req.Admin}
	if j.Interface, err = interfaceName(sb.Endpoints, want.DriverOpts); err != nil {
		return spec.Endpoint{}, nil, false, err
	}
	if j.Sysctls, err = endpointSysctls(want.DriverOpts, j.Interface, sysctls); err != nil {
		return spec.Endpoint{}, nil, false, err
	}
	if len(req.Endpoints) == 1 { // with several, ports lead to the network of the default route
		j.Ports = req.Ports
	}
	if err := n.enter(ctx); err != nil {
		return spec.Endpoint{}, nil, false, err
	}
	a, err := n.driver.Attach(ctx, j)
	if err != nil {
		n.leave()
		return spec.Endpoint{}, nil, false, s.explain(n, want, err)
	}
	if a.NetNS != nil {
		sb.NetNS = a.NetNS
	}
	ep := a.Endpoint
	if ep.ID == "" {
		ep.ID = newID()
	}
	sb.Ports = append(sb.Ports, a.Ports...)
	ep.NetworkID, ep.NetworkName, ep.Driver = n.ID, n.Name, n.Driver
	ep.Aliases, ep.Links, ep.LinkLocal, ep.GwPriority, ep.DriverOpts = want.Aliases, want.Links, want.LinkLocal, want.GwPriority, want.DriverOpts
	ep.Names = namesOf(n, want, req)
	sb.Endpoints = append(sb.Endpoints, ep)
	return ep, func(ctx context.Context) error { defer n.leave(); return n.driver.Detach(ctx, ep) }, a.Prepared, nil
}

// explain says which network refused, and who has an address that is taken.
func (s *sandboxes) explain(n *known, want spec.EndpointRequest, err error) error {
	if errdefs.IsAlreadyExists(err) {
		for _, a := range addresses(want) {
			if who := s.members.holder(n.ID, a); who != "" {
				return fmt.Errorf("attaching to network %s: Address already in use: %s is that of container %s: %w", n.Name, a, who, errdefs.ErrPermissionDenied)
			}
		}
		return fmt.Errorf("attaching to network %s: Address already in use: %w", n.Name, err)
	}
	return fmt.Errorf("attaching to network %s: %w", n.Name, err)
}

// publish opens the container's ports at the endpoint that outsiders reach it by.
func (s *sandboxes) publish(ctx context.Context, req spec.SandboxRequest, sb *spec.Sandbox) error {
	to, ep := s.target(sb.Endpoints)
	if len(req.Ports) == 0 || ep == nil {
		return nil // ports mean nothing with the host's network or none, as in Docker
	}
	bound, err := s.ports.Publish(ctx, req.Container, to, req.Ports)
	var taken *PortTakenError
	if errors.As(err, &taken) {
		err = fmt.Errorf("%s: %w", taken.text(s.members.nameOf(taken.Owner)), errdefs.ErrInternal)
	}
	if err != nil {
		return fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): %w", req.Name, ep.ID, err)
	}
	sb.Ports = bound
	return nil
}

// Restore implements containers.Networks. Whatever fails, the container counts as
// attached, and Release works: its process lives, or its exit is about to be told.
func (s *sandboxes) Restore(ctx context.Context, container string, sb spec.Sandbox, pid int) error {
	var errs []error
	for _, ep := range sb.Endpoints {
		n := s.nets.byID(ep.NetworkID)
		if n == nil || n.driver == nil {
			errs = append(errs, fmt.Errorf("restoring container %s: its network %s is no more: %w", container, ep.NetworkName, errdefs.ErrNotFound))
			continue
		}
		n.users++ // nobody else uses it yet
		errs = append(errs, n.driver.Restore(ctx, ep))
	}
	if to, ep := s.target(sb.Endpoints); ep != nil && len(sb.Ports) > 0 {
		errs = append(errs, s.ports.Restore(ctx, container, to, sb.Ports))
	}
	sb.NetNS = nil
	if s.namespaces != nil && pid > 0 && !hosts(sb.Endpoints) {
		ns, err := s.namespaces.Of(pid)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // its exit is about to be told
			errs = append(errs, err)
		}
		sb.NetNS = ns
	}
	s.naming.restore(container, sb)
	s.members.remember(container, attachment{sandbox: sb})
	return errors.Join(errs...)
}

// hosts tells whether endpoints are those of the host's own namespace.
func hosts(eps []spec.Endpoint) bool { return len(eps) > 0 && eps[0].Driver == "host" }

// Release implements containers.Networks.
func (s *sandboxes) Release(ctx context.Context, container string, sb spec.Sandbox) error {
	made, ok := s.members.forget(container, sb.ID)
	if !ok {
		return nil
	}
	var errs []error
	if len(made.Ports) > 0 {
		errs = append(errs, s.ports.Withdraw(ctx, container))
	}
	errs = append(errs, s.naming.end(ctx, container, made), closeNS(made.NetNS))
	for _, ep := range made.Endpoints {
		if n := s.nets.byID(ep.NetworkID); n != nil && n.driver != nil {
			errs = append(errs, n.driver.Detach(ctx, ep))
			n.leave()
		}
		s.announce.member("disconnect", ep, container)
	}
	return errors.Join(errs...)
}

func closeNS(f *os.File) error {
	if f == nil {
		return nil
	}
	if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
