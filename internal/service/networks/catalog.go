package networks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/gantry-engine/gantry/internal/spec"
)

// catalog is the networks that exist, in the order of creation. Its lock is held for looking up only.
type catalog struct {
	mu   sync.RWMutex
	list []*known
}

// known is one network with its driver.
type known struct {
	spec.Network // never changes
	builtin      bool
	driver       Driver // nil for a configuration
	space        Space

	mu    sync.Mutex
	users int   // endpoints that are there, or about to be
	gone  bool  // it is being removed
	shut  error // why Open failed at the daemon's start; it is tried again by the next user
}

// enter counts a user, which keeps the network from being removed, and opens one that could not be opened before.
func (n *known) enter(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone {
		return fmt.Errorf("network %s not found: it is being removed: %w", n.Name, errdefs.ErrNotFound)
	}
	if n.driver == nil {
		return fmt.Errorf("cannot create endpoint on configuration-only network: network %s is only a configuration for other networks: %w", n.Name, errdefs.ErrPermissionDenied)
	}
	if n.shut != nil {
		if n.shut = n.driver.Open(ctx); n.shut == nil {
			n.shut = n.driver.Ready(ctx)
		}
		if n.shut != nil {
			return fmt.Errorf("network %s cannot be used: %w", n.Name, n.shut)
		}
	}
	n.users++
	return nil
}

// leave ends what enter began.
func (n *known) leave() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.users--
}

// condemn begins a removal if nobody uses the network.
func (n *known) condemn() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.users > 0 || n.gone {
		return false
	}
	n.gone = true
	return true
}

// spare ends a removal that failed.
func (n *known) spare() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone = false
}

// predefined gives the networks that every engine has; without a driver for it there is no bridge.
func predefined(cfg Config, deps Deps) []*known {
	var c []*known
	for _, p := range deps.Predefined {
		sum := sha256.Sum256([]byte("network\x00" + cfg.Seed + "\x00" + p.Network.Name))
		n := p.Network
		n.ID, n.Created, n.Scope, n.IPAM.Driver = hex.EncodeToString(sum[:]), cfg.Created, "local", "default"
		c = append(c, &known{Network: n, builtin: true, driver: p.Driver, space: p.Space})
	}
	return c
}

// all are the networks of this moment.
func (c *catalog) all() []*known {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clone(c.list)
}

// bridged tells whether there is a default network with a bridge.
func (c *catalog) bridged() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.list[0].Driver == "bridge" && c.list[0].builtin
}

// find looks a network up by name, ID or unambiguous beginning of an ID. "default"
// is the bridge, or none where the bridge is switched off.
func (c *catalog) find(ref string) (*known, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if ref == "" || ref == "default" {
		for _, n := range c.list {
			if n.builtin && (n.Driver == "bridge" || n.Driver == "null") {
				return n, nil
			}
		}
	}
	var hit *known
	for _, n := range c.list {
		if n.Name == ref || n.ID == ref {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			if hit != nil {
				return nil, fmt.Errorf("network %s is ambiguous (2 matches found based on ID prefix): %w", ref, errdefs.ErrInvalidArgument)
			}
			hit = n
		}
	}
	if hit == nil {
		return nil, fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
	}
	return hit, nil
}

// byID gives the network of exactly this ID, or nil.
func (c *catalog) byID(id string) *known {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, n := range c.list {
		if n.ID == id {
			return n
		}
	}
	return nil
}

// add makes a network known; errdefs.ErrConflict if one of its name is.
func (c *catalog) add(n *known) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.list {
		if other.Name == n.Name {
			return fmt.Errorf("network with name %s already exists: %w", n.Name, errdefs.ErrConflict)
		}
	}
	c.list = append(c.list, n)
	return nil
}

// replace puts a network into another's place.
func (c *catalog) replace(old, n *known) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, x := range c.list {
		if x == old {
			c.list[i] = n
		}
	}
}

// drop forgets a network.
func (c *catalog) drop(n *known) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = slices.DeleteFunc(c.list, func(x *known) bool { return x == n })
}
