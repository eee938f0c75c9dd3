package networks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Connect implements containers.Networks: a running container comes to one more network, the last of req's endpoints. It
// gives the sandbox as changed. Ports are published where they can be reached now.
func (s *sandboxes) Connect(ctx context.Context, req spec.SandboxRequest, want spec.EndpointRequest) (_ spec.Sandbox, err error) {
	a, sb, err := s.changing(req.Container)
	if err != nil {
		return spec.Sandbox{}, err
	}
	n, err := s.nets.find(want.Network)
	if err != nil {
		return spec.Sandbox{}, err
	}
	switch {
	case alone(n):
		return spec.Sandbox{}, privateError(n.Driver)
	case slices.ContainsFunc(sb.Endpoints, func(ep spec.Endpoint) bool { return ep.NetworkID == n.ID }):
		return spec.Sandbox{}, fmt.Errorf("endpoint with name %s already exists in network %s: %w", req.Name, n.Name, errdefs.ErrPermissionDenied)
	case slices.ContainsFunc(sb.Endpoints, func(ep spec.Endpoint) bool { return ep.Driver == "host" || ep.Driver == "null" }):
		return spec.Sandbox{}, privateError(sb.Endpoints[0].Driver)
	}
	if err := checkEndpoint(n, want); err != nil {
		return spec.Sandbox{}, err
	}
	old4, old6 := gateways(sb.Endpoints)
	before := slices.Clone(sb.Endpoints)
	var steps undo.Stack
	defer steps.OnError(ctx, &err)
	req.Admin = a.admin
	ep, leave, _, err := s.join(ctx, &sb, want, req, nil)
	if err != nil {
		return spec.Sandbox{}, err
	}
	steps.Push("endpoint on "+ep.NetworkName, leave)
	steps.Push("interface on "+ep.NetworkName, func(ctx context.Context) error {
		return s.nets.byID(ep.NetworkID).driver.Unplug(ctx, ep, sb.NetNS)
	})
	failpoint.Hit("gantryd.connect-plugged")
	via4, via6 := gateways(sb.Endpoints)
	if err := s.route(sb.NetNS, before, via4, via6); err != nil {
		return spec.Sandbox{}, err
	}
	steps.Push("default routes", func(context.Context) error { return s.route(sb.NetNS, sb.Endpoints, old4, old6) })
	if err := s.move(ctx, req, before, &sb); err != nil {
		return spec.Sandbox{}, err
	}
	failpoint.Hit("gantryd.connect-moved")
	if !named(a.sandbox.Endpoints) && named(sb.Endpoints) {
		sb.Servers = s.servers(req.DNS)
	}
	if err := s.naming.change(ctx, req.Container, a.sandbox, sb); err != nil {
		return spec.Sandbox{}, fmt.Errorf("names of container %s: %w", req.Name, err)
	}
	s.members.remember(req.Container, attachment{req.Name, a.admin, sb})
	s.announce.member("connect", ep, req.Container)
	return sb, nil
}

// Disconnect implements containers.Networks: a running container leaves a network, by name or ID. With force an
// interface that cannot be taken away is left to the end of the container.
func (s *sandboxes) Disconnect(ctx context.Context, req spec.SandboxRequest, network string, force bool) (spec.Sandbox, error) {
	a, sb, err := s.changing(req.Container)
	if err != nil {
		return spec.Sandbox{}, err
	}
	i := slices.IndexFunc(sb.Endpoints, func(ep spec.Endpoint) bool { return ep.NetworkID == network || ep.NetworkName == network })
	if n, ferr := s.nets.find(network); i < 0 && ferr == nil {
		i = slices.IndexFunc(sb.Endpoints, func(ep spec.Endpoint) bool { return ep.NetworkID == n.ID })
	}
	if i < 0 {
		return spec.Sandbox{}, fmt.Errorf("container %s is not connected to network %s: %w", req.Container, network, errdefs.ErrPermissionDenied)
	}
	ep := sb.Endpoints[i]
	n := s.nets.byID(ep.NetworkID)
	if n == nil || n.driver == nil {
		return spec.Sandbox{}, fmt.Errorf("network %s not found: %w", ep.NetworkName, errdefs.ErrNotFound)
	}
	if alone(n) {
		return spec.Sandbox{}, privateError(n.Driver)
	}
	before := slices.Clone(sb.Endpoints)
	sb.Endpoints = slices.Delete(slices.Clone(sb.Endpoints), i, i+1)
	if err := s.move(ctx, req, before, &sb); err != nil {
		return spec.Sandbox{}, err
	}
	failpoint.Hit("gantryd.disconnect-moved")
	ctx = context.WithoutCancel(ctx)
	if err := n.driver.Unplug(ctx, ep, sb.NetNS); err != nil && !force {
		back := sb
		back.Endpoints = before
		if merr := s.move(ctx, req, sb.Endpoints, &back); merr != nil {
			err = fmt.Errorf("%w; and its ports could not be published again: %w", err, merr)
		}
		return spec.Sandbox{}, fmt.Errorf("disconnecting from network %s: %w", n.Name, err)
	}
	failpoint.Hit("gantryd.disconnect-unplugged")
	via4, via6 := gateways(sb.Endpoints)
	if err := s.route(sb.NetNS, before, via4, via6); err != nil {
		return spec.Sandbox{}, err
	}
	err = errors.Join(s.naming.change(ctx, req.Container, a.sandbox, sb), n.driver.Detach(ctx, ep))
	n.leave()
	s.members.remember(req.Container, attachment{req.Name, a.admin, sb})
	s.announce.member("disconnect", ep, req.Container)
	return sb, err
}

// Rename implements containers.Networks: who looks for a running container finds it under its new name.
func (s *sandboxes) Rename(ctx context.Context, req spec.SandboxRequest) (spec.Sandbox, error) {
	a, sb, err := s.changing(req.Container)
	if err != nil {
		return a.sandbox, nil //nolint:nilerr // it is on no network: nobody knows its name
	}
	sb.Endpoints = slices.Clone(sb.Endpoints)
	for i := range sb.Endpoints {
		ep := &sb.Endpoints[i]
		if n := s.nets.byID(ep.NetworkID); n != nil {
			ep.Names = namesOf(n, spec.EndpointRequest{Aliases: ep.Aliases}, req)
		}
	}
	if err := s.naming.change(ctx, req.Container, a.sandbox, sb); err != nil {
		return a.sandbox, err
	}
	s.members.remember(req.Container, attachment{req.Name, a.admin, sb})
	return sb, nil
}

// changing gives what a running container has, to be changed.
func (s *sandboxes) changing(container string) (attachment, spec.Sandbox, error) {
	a, ok := s.members.of(container)
	switch {
	case !ok:
		return a, spec.Sandbox{}, fmt.Errorf("container %s is on no network: %w", container, errdefs.ErrFailedPrecondition)
	case a.sandbox.NetNS == nil && !hosts(a.sandbox.Endpoints):
		return a, spec.Sandbox{}, fmt.Errorf("the network namespace of container %s is gone: %w", container, errdefs.ErrFailedPrecondition)
	}
	return a, a.sandbox, nil
}

func privateError(driver string) error {
	if driver == "host" {
		return fmt.Errorf("cannot connect or disconnect container to host network - hostnetwork mode must be set at create: container cannot be connected to host network and to others: %w", errdefs.ErrPermissionDenied)
	}
	return fmt.Errorf("container cannot be connected to multiple networks with one of the networks in private (none) mode: %w", errdefs.ErrPermissionDenied)
}

// route makes the default routes those of via4 and via6, if they are others than those of before.
func (s *sandboxes) route(ns *os.File, before []spec.Endpoint, via4, via6 *spec.Endpoint) error {
	old4, old6 := gateways(before)
	same := func(a, b *spec.Endpoint) bool { return a == nil && b == nil || a != nil && b != nil && a.ID == b.ID }
	if s.namespaces == nil || same(old4, via4) && same(old6, via6) {
		return nil
	}
	return s.namespaces.Route(ns, via4, via6)
}

// move publishes the container's ports at the endpoint that outsiders reach it by now, if it is another one than before.
func (s *sandboxes) move(ctx context.Context, req spec.SandboxRequest, before []spec.Endpoint, sb *spec.Sandbox) error {
	was, from := s.target(before)
	now, to := s.target(sb.Endpoints)
	if from != nil && to != nil && from.ID == to.ID && was == now || from == nil && to == nil {
		return nil
	}
	wanted := req.Ports
	if len(sb.Ports) > 0 {
		wanted = sb.Ports // the same ports of the host again
		if err := s.ports.Withdraw(ctx, req.Container); err != nil {
			return err
		}
	}
	sb.Ports = nil
	req.Ports = wanted
	err := s.publish(ctx, req, sb)
	if err != nil && from != nil {
		back := spec.Sandbox{Endpoints: before}
		if berr := s.publish(context.WithoutCancel(ctx), req, &back); berr != nil {
			err = fmt.Errorf("%w; and they are no longer published where they were: %w", err, berr)
		}
	}
	return err
}
