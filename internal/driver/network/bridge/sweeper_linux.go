package bridge

import (
	"log/slog"
	"strings"
	"sync"

	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// sweeper deletes what dead daemons left on the bridge, and spares restored containers.
type sweeper struct {
	dev     *device
	closing <-chan struct{}
	work    sync.WaitGroup

	mu   sync.Mutex
	live map[string]bool // host ends of restored containers
}

func newSweeper(dev *device, closing <-chan struct{}) *sweeper {
	return &sweeper{dev: dev, closing: closing, live: map[string]bool{}}
}

func (s *sweeper) spare(veth string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[veth] = true
}

func (s *sweeper) forget(veth string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, veth)
}

// start deletes the orphans of this moment, in the background.
func (s *sweeper) start() error {
	left, err := s.orphans()
	if len(left) > 0 {
		s.work.Go(func() { s.sweep(left) })
	}
	return err
}

// orphans lists host ends with our names that no restored container has: of a dead
// daemon's pool, which the kernel is about to take away, or of a namespace that
// somebody else keeps alive.
func (s *sweeper) orphans() ([]netlink.Link, error) {
	links, err := s.dev.conn.Links()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []netlink.Link
	for _, l := range links {
		if strings.HasPrefix(l.Name, s.dev.prefix) && l.Kind == "veth" && l.Master == s.dev.index && !s.live[l.Name] {
			out = append(out, l)
		}
	}
	return out, nil
}

// sweep deletes interfaces, one after the other: each waits for RCU, some tens of
// milliseconds, unless the kernel was faster.
func (s *sweeper) sweep(links []netlink.Link) {
	c, err := netlink.Open(nil)
	if err != nil {
		slog.Warn("interfaces of a former daemon stay", "bridge", s.dev.cfg.Name, "error", err)
		return
	}
	defer c.Close()
	for _, l := range links {
		select {
		case <-s.closing:
			return
		default:
		}
		if err := c.Delete(l); err != nil {
			slog.Warn("an interface of a former daemon stays", "interface", l.Name, "error", err)
		}
	}
}
