package networks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/gantry-engine/gantry/internal/service/networks/files"
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

// Service is the door to all use cases of networks: each embedded part is a group of them
// over the catalog and the members. Its own work is the drivers' life, from start to stop.
type Service struct {
	*querier
	*changer
	*sandboxes
	*resolver

	nets    catalog
	members *members
	ports   Ports
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
	nets, m := predefined(cfg.Seed, deps), &members{name: cfg.Name, attached: map[string]attachment{}}
	return &Service{
		querier: &querier{nets, m, cfg.Created}, changer: &changer{nets}, sandboxes: &sandboxes{nets, m, deps.Ports, announcer{deps.Events}},
		resolver: &resolver{files.Resolv{Servers: cfg.DNS, Search: cfg.DNSSearch, Options: cfg.DNSOptions}, cfg.ResolvConf},
		nets:     nets, members: m, ports: deps.Ports,
	}, nil
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
	s.members.open()
	return nil
}

// Close stops. If no container is attached, nothing of the networks stays on the host.
func (s *Service) Close(ctx context.Context) error {
	remove := !s.members.close()
	errs := []error{s.ports.Close(ctx, remove)}
	for _, n := range s.nets {
		errs = append(errs, n.driver.Close(ctx, remove))
	}
	return errors.Join(errs...)
}
