package networks

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/spec"
)

// sandboxes puts containers' sandboxes together and takes them apart: endpoints of the
// drivers, then published ports. It implements containers.Networks, with the resolver.
type sandboxes struct {
	nets     catalog
	members  *members
	ports    Ports
	announce announcer
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
		if (n.kind == "host" || n.kind == "null") && len(req.Endpoints) > 1 {
			return fmt.Errorf("container cannot be connected to network %s and to others: %w", n.name, errdefs.ErrInvalidArgument)
		}
		if e.IPv4.IsValid() || e.IPv6.IsValid() {
			return fmt.Errorf("invalid config for network %s: user specified IP address is supported on user defined networks only: %w", n.name, errdefs.ErrInvalidArgument)
		}
		if len(e.Aliases) > 0 && n.kind != "bridge" {
			return fmt.Errorf("invalid config for network %s: network-scoped aliases are only supported for user-defined networks: %w", n.name, errdefs.ErrInvalidArgument)
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
	sb := spec.Sandbox{ID: newID()}
	for i, want := range req.Endpoints {
		var sysctls map[string]string
		if i == len(req.Endpoints)-1 { // some name an interface, which must be there
			sysctls = req.Sysctls
		}
		ep, err := s.join(ctx, &sb, want, i, sysctls)
		if err != nil {
			return spec.Sandbox{}, err
		}
		drv := s.nets.byID(ep.NetworkID).driver
		steps.Push("endpoint on "+ep.NetworkName, func(ctx context.Context) error { return drv.Detach(ctx, ep) })
		if i == 0 {
			ns := sb.NetNS
			steps.Push("network namespace", func(context.Context) error { return closeNS(ns) })
		}
	}
	if err := s.publish(ctx, req, &sb); err != nil {
		return spec.Sandbox{}, err
	}
	s.members.remember(req.Container, req.Name, sb)
	for _, ep := range sb.Endpoints {
		s.announce.member("connect", ep, req.Container)
	}
	return sb, nil
}

func (s *sandboxes) join(ctx context.Context, sb *spec.Sandbox, want spec.EndpointRequest, i int, sysctls map[string]string) (spec.Endpoint, error) {
	ref := want.Network
	if ref == "bridge" && !s.nets.bridged() { // --bridge none: who names no network gets none
		ref = "default"
	}
	n, err := s.nets.find(ref)
	if err != nil {
		return spec.Endpoint{}, err
	}
	a, err := n.driver.Attach(ctx, Join{NetNS: sb.NetNS, Interface: fmt.Sprintf("eth%d", i), IPv4: want.IPv4, IPv6: want.IPv6, MAC: want.MAC, Sysctls: sysctls})
	if err != nil {
		return spec.Endpoint{}, fmt.Errorf("attaching to network %s: %w", n.name, err)
	}
	if a.NetNS != nil {
		sb.NetNS = a.NetNS
	}
	ep := a.Endpoint
	ep.ID, ep.NetworkID, ep.NetworkName, ep.Driver = newID(), n.id, n.name, n.kind
	ep.Aliases, ep.DriverOpts = want.Aliases, want.DriverOpts
	sb.Endpoints = append(sb.Endpoints, ep)
	return ep, nil
}

func (s *sandboxes) publish(ctx context.Context, req spec.SandboxRequest, sb *spec.Sandbox) error {
	to, ep := target(sb.Endpoints)
	if len(req.Ports) == 0 || !to.IPv4.IsValid() {
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
func (s *sandboxes) Restore(ctx context.Context, container string, sb spec.Sandbox, _ int) error {
	var errs []error
	for _, ep := range sb.Endpoints {
		n := s.nets.byID(ep.NetworkID)
		if n == nil {
			errs = append(errs, fmt.Errorf("restoring container %s: its network %s is no more: %w", container, ep.NetworkName, errdefs.ErrNotFound))
			continue
		}
		errs = append(errs, n.driver.Restore(ctx, ep))
	}
	if to, _ := target(sb.Endpoints); to.IPv4.IsValid() && len(sb.Ports) > 0 {
		errs = append(errs, s.ports.Restore(ctx, container, to, sb.Ports))
	}
	sb.NetNS = nil
	s.members.remember(container, "", sb)
	return errors.Join(errs...)
}

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
	errs = append(errs, closeNS(made.NetNS))
	for _, ep := range made.Endpoints {
		if n := s.nets.byID(ep.NetworkID); n != nil {
			errs = append(errs, n.driver.Detach(ctx, ep))
		}
		s.announce.member("disconnect", ep, container)
	}
	return errors.Join(errs...)
}

// target is the endpoint that published ports lead to.
func target(eps []spec.Endpoint) (spec.PortTarget, spec.Endpoint) {
	for _, ep := range eps {
		if ep.IPv4.IsValid() {
			return spec.PortTarget{IPv4: ep.IPv4.Addr()}, ep
		}
	}
	return spec.PortTarget{}, spec.Endpoint{}
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
