package networks

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/undo"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Config is what the daemon decides about networks.
type Config struct {
	// Seed makes the predefined networks' IDs: the same for an engine's whole life
	// (its ID, or its data root), another for another engine.
	Seed string
	// Created is shown as the predefined networks' time of creation.
	Created time.Time
	// DNS, DNSSearch and DNSOptions are the daemon's --dns flags.
	DNS, DNSSearch, DNSOptions []string
	// ResolvConf reads the host's resolv.conf; nil means /etc/resolv.conf.
	ResolvConf func() ([]byte, error)
	// Name gives a container's present name by ID, or "": for inspect and errors. May be nil.
	Name func(container string) string
}

// Deps are the service's ports.
type Deps struct {
	// Bridge, Host and None serve the predefined networks. Bridge is nil with --bridge=none.
	Bridge, Host, None Driver
	Ports              Ports
	Events             Events
}

// Service knows the networks and who is on them.
type Service struct {
	cfg   Config
	ports Ports
	emit  Events
	nets  []*known // in the order of creation

	mu       sync.Mutex
	attached map[string]attachment // by container
	ready    bool
}

type known struct {
	id, name, kind string
	driver         Driver
	facts          Facts
}

type attachment struct {
	name    string
	sandbox spec.Sandbox
}

// New makes the service over the drivers of the predefined networks. Nothing
// happens on the host before Open.
func New(cfg Config, deps Deps) (*Service, error) {
	if deps.Host == nil || deps.None == nil || deps.Ports == nil {
		return nil, errors.New("networks: the host and none drivers and ports are needed")
	}
	if cfg.ResolvConf == nil {
		cfg.ResolvConf = func() ([]byte, error) { return os.ReadFile("/etc/resolv.conf") }
	}
	s := &Service{cfg: cfg, ports: deps.Ports, emit: deps.Events, attached: map[string]attachment{}}
	add := func(name, kind string, d Driver) {
		if d != nil {
			sum := sha256.Sum256([]byte("network\x00" + cfg.Seed + "\x00" + name))
			s.nets = append(s.nets, &known{id: hex.EncodeToString(sum[:]), name: name, kind: kind, driver: d})
		}
	}
	add("bridge", "bridge", deps.Bridge)
	add("host", "host", deps.Host)
	add("none", "null", deps.None)
	return s, nil
}

// Open makes the networks usable on the host. Restore comes after it, then Start.
func (s *Service) Open(ctx context.Context) error {
	for _, n := range s.nets {
		facts, err := n.driver.Open(ctx)
		if err != nil {
			return fmt.Errorf("opening network %s: %w", n.name, err)
		}
		n.facts = facts
	}
	return nil
}

// Start ends recovery: every living container has been restored. Attach works from now
// on. A driver that could not tidy up what a former daemon left is logged, not an error.
func (s *Service) Start(ctx context.Context) error {
	if err := s.ports.Ready(ctx); err != nil {
		return err
	}
	for _, n := range s.nets {
		if err := n.driver.Ready(ctx); err != nil {
			slog.Warn("a network could not be tidied up", "network", n.name, "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = true
	return nil
}

// Close stops. If no container is attached, nothing of the networks stays on the host.
func (s *Service) Close(ctx context.Context) error {
	s.mu.Lock()
	s.ready = false
	remove := len(s.attached) == 0
	s.mu.Unlock()
	errs := []error{s.ports.Close(ctx, remove)}
	for _, n := range s.nets {
		errs = append(errs, n.driver.Close(ctx, remove))
	}
	return errors.Join(errs...)
}

// Check implements containers.Networks. That a network exists is asked at start only, as
// Docker does: clients take a 404 to create for a missing image.
func (s *Service) Check(_ context.Context, req spec.SandboxRequest) error {
	if err := checkPorts(req.Ports); err != nil {
		return err
	}
	for _, e := range req.Endpoints {
		n, err := s.find(e.Network)
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
func (s *Service) Attach(ctx context.Context, req spec.SandboxRequest) (_ spec.Sandbox, err error) {
	if err := s.Check(ctx, req); err != nil {
		return spec.Sandbox{}, err
	}
	s.mu.Lock()
	_, twice := s.attached[req.Container]
	ready := s.ready
	s.mu.Unlock()
	switch {
	case !ready:
		return spec.Sandbox{}, fmt.Errorf("networks are not ready: the daemon is starting or stopping: %w", errdefs.ErrUnavailable)
	case twice:
		return spec.Sandbox{}, fmt.Errorf("container %s is attached to its networks already: %w", req.Container, errdefs.ErrAlreadyExists)
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
		drv := s.byID(ep.NetworkID).driver
		steps.Push("endpoint on "+ep.NetworkName, func(ctx context.Context) error { return drv.Detach(ctx, ep) })
		if i == 0 {
			ns := sb.NetNS
			steps.Push("network namespace", func(context.Context) error { return closeNS(ns) })
		}
	}
	if err := s.publish(ctx, req, &sb); err != nil {
		return spec.Sandbox{}, err
	}
	s.remember(req.Container, req.Name, sb)
	for _, ep := range sb.Endpoints {
		s.event("connect", ep, req.Container)
	}
	return sb, nil
}

func (s *Service) join(ctx context.Context, sb *spec.Sandbox, want spec.EndpointRequest, i int, sysctls map[string]string) (spec.Endpoint, error) {
	ref := want.Network
	if ref == "bridge" && s.nets[0].kind != "bridge" { // --bridge none: who names no network gets none
		ref = "default"
	}
	n, err := s.find(ref)
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

func (s *Service) publish(ctx context.Context, req spec.SandboxRequest, sb *spec.Sandbox) error {
	to, ep := target(sb.Endpoints)
	if len(req.Ports) == 0 || !to.IsValid() {
		return nil // ports mean nothing with the host's network or none, as in Docker
	}
	bound, err := s.ports.Publish(ctx, req.Container, to, req.Ports)
	var taken *PortTakenError
	if errors.As(err, &taken) {
		err = fmt.Errorf("%s: %w", taken.text(s.nameOf(taken.Owner)), errdefs.ErrInternal)
	}
	if err != nil {
		return fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): %w", req.Name, ep.ID, err)
	}
	sb.Ports = bound
	return nil
}

// Restore implements containers.Networks. Whatever fails, the container counts as
// attached, and Release works: its process lives, or its exit is about to be told.
func (s *Service) Restore(ctx context.Context, container string, sb spec.Sandbox, _ int) error {
	var errs []error
	for _, ep := range sb.Endpoints {
		n := s.byID(ep.NetworkID)
		if n == nil {
			errs = append(errs, fmt.Errorf("restoring container %s: its network %s is no more: %w", container, ep.NetworkName, errdefs.ErrNotFound))
			continue
		}
		errs = append(errs, n.driver.Restore(ctx, ep))
	}
	if to, _ := target(sb.Endpoints); to.IsValid() && len(sb.Ports) > 0 {
		errs = append(errs, s.ports.Restore(ctx, container, to, sb.Ports))
	}
	sb.NetNS = nil
	s.remember(container, "", sb)
	return errors.Join(errs...)
}

// Release implements containers.Networks.
func (s *Service) Release(ctx context.Context, container string, sb spec.Sandbox) error {
	s.mu.Lock()
	a, known := s.attached[container]
	if known && (sb.ID == "" || sb.ID == a.sandbox.ID) {
		delete(s.attached, container)
	} else {
		known = false
	}
	s.mu.Unlock()
	if !known {
		return nil
	}
	var errs []error
	if len(a.sandbox.Ports) > 0 {
		errs = append(errs, s.ports.Withdraw(ctx, container))
	}
	errs = append(errs, closeNS(a.sandbox.NetNS))
	for _, ep := range a.sandbox.Endpoints {
		if n := s.byID(ep.NetworkID); n != nil {
			errs = append(errs, n.driver.Detach(ctx, ep))
		}
		s.event("disconnect", ep, container)
	}
	return errors.Join(errs...)
}

func (s *Service) remember(container, name string, sb spec.Sandbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attached[container] = attachment{name, sb}
}

func (s *Service) nameOf(container string) string {
	if container == "" {
		return ""
	}
	if s.cfg.Name != nil {
		if n := s.cfg.Name(container); n != "" {
			return strings.TrimPrefix(n, "/")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attached[container].name
}

func (s *Service) event(action events.Action, ep spec.Endpoint, container string) {
	if s.emit == nil {
		return
	}
	now := time.Now()
	s.emit.Publish(events.Message{
		Type: events.NetworkEventType, Action: action, Scope: "local",
		Actor: events.Actor{ID: ep.NetworkID, Attributes: map[string]string{"container": container, "name": ep.NetworkName, "type": ep.Driver}},
		Time:  now.Unix(), TimeNano: now.UnixNano(),
	})
}

// target is the endpoint that published ports lead to.
func target(eps []spec.Endpoint) (netip.Addr, spec.Endpoint) {
	for _, ep := range eps {
		if ep.IPv4.IsValid() {
			return ep.IPv4.Addr(), ep
		}
	}
	return netip.Addr{}, spec.Endpoint{}
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
