package networks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/gantry-engine/gantry/internal/service/networks/files"
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
	// Options are the --default-network-opt flags: options of new networks, by driver.
	Options map[string]map[string]string
	// ResolvConf reads the host's resolv.conf; nil means /etc/resolv.conf.
	ResolvConf func() ([]byte, error)
	// Name gives a container's present name by ID, or "": for inspect and errors. May be nil.
	Name func(container string) string
}

// Deps are the service's ports.
type Deps struct {
	// Predefined are the networks that every engine has: bridge, unless it is switched off, host and none.
	Predefined []Predefined
	Kinds      map[string]Kind // by the driver's name
	IPAM       map[string]IPAM // by the driver's name
	Plugins    Plugins         // for other names; nil: there are none
	Namespaces Namespaces
	Ports      Ports
	Names      Names // nil: networks have no names
	Records    Records
	Events     Events
}

// Predefined is a network that nobody creates.
type Predefined struct {
	Network spec.Network // without ID
	Driver  Driver
	Space   Space
}

// Service is the door to all use cases of networks: each embedded part is a group of them
// over the catalog and the members. Its own work is the drivers' life, from start to stop.
type Service struct {
	*querier
	*maker
	*sandboxes
	*resolver

	nets    *catalog
	members *members
	ports   Ports
}

// New makes the service over the predefined networks. Nothing happens on the host before Open.
func New(cfg Config, deps Deps) (*Service, error) {
	if len(deps.Predefined) < 2 || deps.Ports == nil {
		return nil, errors.New("networks: the host and none networks and ports are needed")
	}
	if cfg.ResolvConf == nil {
		cfg.ResolvConf = func() ([]byte, error) { return os.ReadFile("/etc/resolv.conf") }
	}
	nets, m := &catalog{list: predefined(cfg, deps)}, &members{name: cfg.Name, attached: map[string]attachment{}}
	tell := announcer{deps.Events}
	who := &resolver{files.Resolv{Servers: cfg.DNS, Search: cfg.DNSSearch, Options: cfg.DNSOptions}, cfg.ResolvConf, deps.Names != nil}
	return &Service{
		querier: &querier{nets, m}, maker: &maker{nets: nets, members: m, deps: deps, options: cfg.Options, announce: tell},
		sandboxes: &sandboxes{nets, m, deps.Namespaces, deps.Ports, naming{deps.Names, nets}, who.upstream, tell},
		resolver:  who,
		nets:      nets, members: m, ports: deps.Ports,
	}, nil
}

// Open makes the networks usable on the host, recorded ones too. Restore comes after it, then Start. A user's network
// that cannot be opened is logged; who wants to use it tries again, and hears why not.
func (s *Service) Open(ctx context.Context) error {
	for _, n := range s.nets.all() {
		if err := n.driver.Open(ctx); err != nil {
			return fmt.Errorf("opening network %s: %w", n.Name, err)
		}
	}
	return s.load(ctx)
}

// Start ends recovery: every living container has been restored. Attach works from now
// on. A driver that could not tidy up what a former daemon left is logged, not an error.
func (s *Service) Start(ctx context.Context) error {
	if err := s.ports.Ready(ctx); err != nil {
		return err
	}
	for _, n := range s.nets.all() {
		if n.driver == nil || n.shut != nil {
			continue
		}
		if err := n.driver.Ready(ctx); err != nil {
			slog.Warn("a network could not be tidied up", "network", n.Name, "error", err)
		}
	}
	for name, kind := range s.maker.deps.Kinds {
		if err := kind.Sweep(ctx, func(id string) bool { return s.nets.byID(id) != nil }); err != nil {
			slog.Warn("what removed networks left could not be tidied up", "driver", name, "error", err)
		}
	}
	if p := s.maker.deps.Plugins; p != nil {
		if err := p.Sweep(ctx, func(id string) bool { return s.nets.byID(id) != nil }); err != nil {
			slog.Warn("what removed networks left with plugins could not be tidied up", "error", err)
		}
	}
	if names := s.naming.names; names != nil {
		names.Ready(ctx)
	}
	s.members.open()
	return nil
}

// Close stops. If no container is attached, nothing of the networks stays on the host.
func (s *Service) Close(ctx context.Context) error {
	remove := !s.members.close()
	errs := []error{s.ports.Close(ctx, remove)}
	if names := s.naming.names; names != nil {
		errs = append(errs, names.Close())
	}
	all := s.nets.all()
	slices.Reverse(all)
	for _, n := range all {
		if n.driver != nil {
			errs = append(errs, n.driver.Close(ctx, remove))
		}
	}
	return errors.Join(errs...)
}
