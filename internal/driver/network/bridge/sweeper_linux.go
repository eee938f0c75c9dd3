package bridge

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/gantry-engine/gantry/internal/driver/network/label"
	"github.com/gantry-engine/gantry/internal/sys/netlink"
)

// sweeper deletes what dead daemons left on the bridge, and spares restored containers; and what the kernel does not take away
// after a container.
type sweeper struct {
	dev     *device
	closing <-chan struct{}
	work    sync.WaitGroup
	linger  time.Duration // how long a released interface is waited for

	mu       sync.Mutex
	live     map[string]bool      // host ends of restored containers
	released map[string]time.Time // host ends that the kernel is about to take away, and since when
	watching bool                 // somebody sees to it
}

// linger is how long the kernel may take to take an interface away with its namespace. A connection that nobody
// acknowledges any more keeps a namespace, with its address on the bridge, for minutes.
const linger = 5 * time.Second

func newSweeper(dev *device, closing <-chan struct{}) *sweeper {
	return &sweeper{dev: dev, closing: closing, live: map[string]bool{}, released: map[string]time.Time{}, linger: linger}
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
	if veth == "" {
		return
	}
	s.released[veth] = time.Now()
	if !s.watching {
		s.watching = true
		s.work.Go(s.watch)
	}
}

// watch sees to it that released interfaces go, until none is left.
func (s *sweeper) watch() {
	for {
		select {
		case <-s.closing:
			return
		case <-time.After(s.linger):
		}
		s.clear(s.linger)
		s.mu.Lock()
		if len(s.released) == 0 {
			s.watching = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

// clear deletes the interfaces that were released so long ago and are still there.
func (s *sweeper) clear(age time.Duration) {
	links, err := s.dev.conn.Links()
	if err != nil {
		slog.Warn("interfaces of ended containers cannot be looked for", "bridge", s.dev.name, "error", err)
		return
	}
	there := map[string]netlink.Link{}
	for _, l := range links {
		there[l.Name] = l
	}
	var late []netlink.Link
	s.mu.Lock()
	for name, since := range s.released {
		l, ok := there[name]
		if old := time.Since(since) >= age; ok && old {
			late = append(late, l)
		} else if ok {
			continue
		}
		delete(s.released, name)
	}
	s.mu.Unlock()
	if len(late) > 0 {
		s.remove(late)
	}
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
	rest := links
	for len(rest) > 0 {
		select {
		case <-s.closing:
			return
		default:
		}
		s.remove(rest[:1])
		rest = rest[1:]
	}
}

// remove deletes interfaces that nobody uses any more.
func (s *sweeper) remove(links []netlink.Link) {
	c, err := netlink.Open(nil)
	if err != nil {
		slog.Warn("interfaces that nobody uses stay", "bridge", s.dev.name, "error", err)
		return
	}
	defer c.Close()
	for _, l := range links {
		if err := c.Delete(l); err != nil {
			slog.Warn("an interface that nobody uses stays", "interface", l.Name, "error", err)
		}
	}
}

// Sweep implements networks.Kind: bridges that a former daemon made and did not record, or did not get to delete.
func (k Kind) Sweep(_ context.Context, known func(id string) bool) error {
	c, err := netlink.Open(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	links, err := c.Links()
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range links {
		id, ours := label.Owner(l.Alias, k.Engine)
		unnamed := l.Alias == "" && l.Kind == "bridge" && label.IsSpare(l.Name, k.Engine)
		if l.Kind == "bridge" && (ours && !known(id) || unnamed) {
			errs = append(errs, c.Delete(l))
			if k.Rules != nil {
				errs = append(errs, k.Rules.RemoveNetwork(l.Name))
			}
		}
	}
	return errors.Join(errs...)
}
