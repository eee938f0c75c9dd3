package containers

import (
	"context"
)

// Deps are the ports that the use cases work through, and their settings. Every
// port is needed; a port left nil fails where it is used.
type Deps struct {
	Records   Records
	Images    Images
	Layers    Layers
	Views     Views
	Processes Processes
	Lifetimes Lifetimes
	Outputs   Outputs
	Logs      Logs
	Cgroups   Cgroups
	Meters    Meters
	OOMs      OOMs
	Networks  Networks
	Volumes   Volumes
	Events    Events

	HostMounts HostMounts

	Config Config
}

// Service is the door to all use cases. It holds no state of its own: each
// embedded part is a small group of use cases over one shared core.
type Service struct {
	*core
	*creator
	*starter
	*stopper
	*pauser
	*waiter
	*attacher
	*logReader
	*remover
	*execs
	*recoverer
	*querier
	*copier
	*changer
	*pruner
	*connector
}

// New makes the service. Recover must be called before it is used.
func New(d Deps) *Service {
	c := newCore(d)
	s := &Service{core: c}
	s.remover = &remover{core: c}
	s.stopper = &stopper{core: c, remove: s.remover}
	s.execs = newExecs(c)
	health := &healthMonitor{core: c, execs: s.execs}
	s.starter = &starter{core: c, remove: s.remover, execs: s.execs, health: health}
	s.stopper.start = s.starter
	s.creator = &creator{core: c}
	s.pauser = &pauser{core: c, health: health}
	s.waiter = &waiter{core: c}
	s.attacher = &attacher{core: c}
	s.logReader = &logReader{core: c}
	s.querier, s.copier, s.changer = &querier{c}, &copier{c}, &changer{c}
	s.connector = &connector{c}
	s.pruner = &pruner{core: c, remove: s.remover}
	s.recoverer = &recoverer{core: c, start: s.starter, stop: s.stopper, remove: s.remover, health: health, execs: s.execs}
	return s
}

// Snapshot resolves a name, an ID or a unique ID prefix to the container's
// present record, without waiting for anybody.
func (c *core) Snapshot(_ context.Context, ref string) (*Container, error) {
	e, err := c.reg.get(ref)
	if err != nil {
		return nil, err
	}
	return e.snapshot(), nil
}
