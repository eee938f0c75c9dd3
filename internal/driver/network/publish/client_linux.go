package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/gantry-engine/gantry/internal/driver/network/gantrynet"
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
// knows what it should hold: over a new connection that is said before anything else.
type Client struct {
	mu     sync.Mutex
	net    *gantrynet.Session
	held   map[string][]netproto.Want // by owner, with ports as bound
	failed map[string]error           // owners whose ports could not be bound again
}

// NewClient makes a client of the engine's gantry-net.
func NewClient(program *gantrynet.Program) *Client {
	return &Client{net: gantrynet.NewSession(program), held: map[string][]netproto.Want{}, failed: map[string]error{}}
}

// Lost tells that gantry-net has gone away with what it held: Sync is needed.
func (c *Client) Lost() <-chan struct{} { return c.net.Lost() }

// Reserve binds all wants or none.
func (c *Client) Reserve(ctx context.Context, owner string, wants []netproto.Want) ([]netproto.Bound, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ports, err := c.reserve(ctx, owner, wants)
	for try := 0; errors.Is(err, gantrynet.ErrGone) && try < 3; try++ { // it ended, or was killed, just now: its sockets are gone too
		ports, err = c.reserve(ctx, owner, wants)
	}
	if err != nil {
		return nil, err
	}
	for i, w := range wants {
		w.Port, w.End = ports[i].Port, 0
		c.held[owner] = append(c.held[owner], w)
	}
	return ports, nil
}

func (c *Client) reserve(ctx context.Context, owner string, wants []netproto.Want) ([]netproto.Bound, error) {
	if err := c.connect(ctx, true); err != nil {
		return nil, err
	}
	a, err := c.net.Ask(ctx, netproto.Request{Op: netproto.OpReserve, Owner: owner, Wants: wants})
	switch {
	case err != nil:
		return nil, err
	case a.Taken != nil:
		return nil, &TakenError{*a.Taken}
	case len(a.Ports) != len(wants):
		return nil, fmt.Errorf("gantry-net bound %d ports of %d", len(a.Ports), len(wants))
	}
	out := make([]netproto.Bound, len(wants))
	for i, port := range a.Ports {
		out[i] = netproto.Bound{Port: port, IPv6: i < len(a.IPv6) && a.IPv6[i]}
	}
	return out, nil
}

// Adopt notes what owner has had reserved under a former daemon, for the next Sync.
func (c *Client) Adopt(owner string, wants []netproto.Want) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[owner] = wants
	c.net.Doubt()
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
		if _, err = c.net.Ask(ctx, netproto.Request{Op: netproto.OpRelease, Owner: owner}); errors.Is(err, gantrynet.ErrGone) {
			err = nil
		}
	}
	if len(c.held) == 0 {
		c.net.HangUp()
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
	if err := c.tell(ctx); err != nil {
		return err
	}
	if err := c.reserveAgain(ctx, slices.Sorted(maps.Keys(c.failed))); err != nil {
		return err
	}
	if !c.net.Tidy {
		if _, err := c.net.Ask(ctx, netproto.Request{Op: netproto.OpKeep, Owners: slices.Sorted(maps.Keys(c.held))}); err != nil {
			return err
		}
		c.net.Tidy = true
	}
	if len(c.held) == 0 {
		c.net.HangUp()
	}
	var errs []error
	for _, owner := range slices.Sorted(maps.Keys(c.failed)) {
		errs = append(errs, fmt.Errorf("the ports of running container %s could not be reserved again: %w", owner, c.failed[owner]))
	}
	return errors.Join(errs...)
}

// tell has everything reserved that gantry-net may not know of. The caller holds the lock and is connected.
func (c *Client) tell(ctx context.Context) error {
	if c.net.Told {
		return nil
	}
	if err := c.reserveAgain(ctx, slices.Sorted(maps.Keys(c.held))); err != nil {
		return err
	}
	c.net.Told = true
	return nil
}

// reserveAgain binds what owners have, or as much of it as can be had.
func (c *Client) reserveAgain(ctx context.Context, owners []string) error {
	for _, owner := range owners {
		a, err := c.net.Ask(ctx, netproto.Request{Op: netproto.OpReserve, Owner: owner, Wants: c.held[owner]})
		if err != nil {
			return err
		}
		delete(c.failed, owner)
		if a.Taken == nil {
			continue
		}
		c.failed[owner] = &TakenError{*a.Taken}
		for _, w := range c.held[owner] { // at least those that can be had
			if _, err := c.net.Ask(ctx, netproto.Request{Op: netproto.OpReserve, Owner: owner, Wants: []netproto.Want{w}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close hangs up. gantry-net goes on while it holds a port.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.net.HangUp()
	return nil
}

// connect finds gantry-net or, with start, starts one. Over a new connection it says first what is held, so that
// nobody takes a port that a running container has.
func (c *Client) connect(ctx context.Context, start bool) error {
	if err := c.net.Connect(ctx, start); err != nil {
		return err
	}
	return c.tell(ctx)
}
