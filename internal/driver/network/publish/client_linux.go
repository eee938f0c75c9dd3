package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/gantry-engine/gantry/internal/kit/failpoint"
	"github.com/gantry-engine/gantry/internal/kit/sibling"
	"github.com/gantry-engine/gantry/internal/netproto"
)

// TakenError is a port that gantry-net could not bind.
type TakenError struct{ netproto.Taken }

func (e *TakenError) Error() string {
	if e.Owner != "" {
		return fmt.Sprintf("port %d is held by container %s", e.Port, e.Owner)
	}
	return fmt.Sprintf("port %d: %s", e.Port, e.Cause)
}

// Client talks to gantry-net, starts it when the first port is published, and
// knows what it should hold: a new gantry-net is told everything before anything else.
type Client struct {
	exe, socket string
	lost        chan struct{}

	mu     sync.Mutex
	link   *link                      // nil if not connected
	held   map[string][]netproto.Want // by owner, with ports as bound
	failed map[string]error           // owners whose ports could not be bound again
	synced bool                       // false: gantry-net may hold more, or less, than held
}

// NewClient makes a client. exe is gantry-net's executable, socket the path of its
// UNIX socket below the exec root.
func NewClient(exe, socket string) *Client {
	return &Client{
		exe: exe, socket: socket, lost: make(chan struct{}, 1),
		held: map[string][]netproto.Want{}, failed: map[string]error{},
	}
}

// Lost tells that gantry-net has gone away with what it held: Sync is needed.
func (c *Client) Lost() <-chan struct{} { return c.lost }

// Reserve binds all wants or none.
func (c *Client) Reserve(ctx context.Context, owner string, wants []netproto.Want) ([]uint16, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ports, err := c.reserve(ctx, owner, wants)
	if errors.Is(err, errGone) { // it ended, or was killed, just now: its sockets are gone too
		ports, err = c.reserve(ctx, owner, wants)
	}
	if err != nil {
		return nil, err
	}
	for i, w := range wants {
		w.Port, w.End = ports[i], 0
		c.held[owner] = append(c.held[owner], w)
	}
	return ports, nil
}

func (c *Client) reserve(ctx context.Context, owner string, wants []netproto.Want) ([]uint16, error) {
	if err := c.connect(ctx, true); err != nil {
		return nil, err
	}
	a, err := c.ask(ctx, netproto.Request{Op: "reserve", Owner: owner, Wants: wants})
	switch {
	case err != nil:
		return nil, err
	case a.Taken != nil:
		return nil, &TakenError{*a.Taken}
	case len(a.Ports) != len(wants):
		return nil, fmt.Errorf("gantry-net bound %d ports of %d", len(a.Ports), len(wants))
	}
	return a.Ports, nil
}

// Adopt notes what owner has had reserved under a former daemon, for the next Sync.
func (c *Client) Adopt(owner string, wants []netproto.Want) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[owner], c.synced = wants, false
}

// Release closes what owner holds; without a gantry-net nothing is held. When nobody
// holds anything, it hangs up, and gantry-net ends.
func (c *Client) Release(ctx context.Context, owner string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, owner)
	delete(c.failed, owner)
	var err error
	if c.connect(ctx, false) == nil {
		if _, err = c.ask(ctx, netproto.Request{Op: "release", Owner: owner}); errors.Is(err, errGone) {
			err = nil
		}
	}
	if len(c.held) == 0 {
		c.hangUp()
	}
	return err
}

// Sync makes gantry-net hold what is known here and nothing else, if that is in
// doubt, and tries again what could not be bound. The error names each owner that
// lacks a port; the others have theirs.
func (c *Client) Sync(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.connect(ctx, len(c.held) > 0)
	if err != nil && len(c.held) == 0 {
		return nil // none runs, none is needed
	}
	if err != nil {
		return err
	}
	owners := slices.Sorted(maps.Keys(c.failed))
	if !c.synced {
		owners = slices.Sorted(maps.Keys(c.held))
	}
	if err := c.feed(ctx, owners); err != nil {
		return err
	}
	if len(c.held) == 0 {
		c.hangUp()
	}
	var errs []error
	for _, owner := range slices.Sorted(maps.Keys(c.failed)) {
		errs = append(errs, fmt.Errorf("the ports of running container %s could not be reserved again: %w", owner, c.failed[owner]))
	}
	return errors.Join(errs...)
}

// feed reserves again what owners have. The caller holds the lock and is connected.
func (c *Client) feed(ctx context.Context, owners []string) error {
	for _, owner := range owners {
		a, err := c.ask(ctx, netproto.Request{Op: "reserve", Owner: owner, Wants: c.held[owner]})
		if err != nil {
			return err
		}
		delete(c.failed, owner)
		if a.Taken == nil {
			continue
		}
		c.failed[owner] = &TakenError{*a.Taken}
		for _, w := range c.held[owner] { // at least those that can be had
			if _, err := c.ask(ctx, netproto.Request{Op: "reserve", Owner: owner, Wants: []netproto.Want{w}}); err != nil {
				return err
			}
		}
	}
	if c.synced {
		return nil
	}
	if _, err := c.ask(ctx, netproto.Request{Op: "keep", Owners: slices.Sorted(maps.Keys(c.held))}); err != nil {
		return err
	}
	c.synced = true
	return nil
}

// Close hangs up. gantry-net goes on while it holds a port.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hangUp()
	return nil
}

// connect finds gantry-net or, with start, starts one. One that has just been
// started is fed, so that nobody takes a port that a running container has.
func (c *Client) connect(ctx context.Context, start bool) error {
	if c.link != nil && !c.link.broken() {
		return nil
	}
	c.hangUp()
	l, err := dial(c.socket, c.lost)
	if err == nil {
		c.link = l
		return nil
	}
	if !start {
		return err
	}
	c.synced = false
	err = sibling.Start(sibling.Program{Exe: c.exe, Network: "unix", Socket: c.socket, Env: []string{"GOMAXPROCS=1", "GOGC=50"}})
	if err != nil {
		return errNoHelper(err)
	}
	failpoint.Hit("gantryd.net-started")
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if c.link, err = dial(c.socket, c.lost); err != nil {
		return fmt.Errorf("connecting to gantry-net: %w", err)
	}
	return c.feed(ctx, slices.Sorted(maps.Keys(c.held)))
}

func (c *Client) hangUp() {
	if c.link == nil {
		return
	}
	c.synced = c.synced && !c.link.broken()
	c.link.close()
	c.link = nil
}

func (c *Client) ask(ctx context.Context, req netproto.Request) (netproto.Answer, error) {
	a, err := c.link.exchange(ctx, req)
	if err != nil { // what it did, and the stream's position, are unknown
		c.hangUp()
		c.synced = false
		nudge(c.lost)
		return a, fmt.Errorf("asking gantry-net to %s ports: %w", req.Op, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("gantry-net: %s", a.Error)
	}
	return a, nil
}

func nudge(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
