package networks

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// catalog is the networks that exist, in the order of creation.
type catalog []*known

// known is one network with its driver.
type known struct {
	id, name, kind string
	driver         Driver
	facts          Facts
}

// predefined gives the networks that every engine has; without a driver for it there is no bridge.
func predefined(seed string, deps Deps) catalog {
	var c catalog
	add := func(name, kind string, d Driver) {
		if d != nil {
			sum := sha256.Sum256([]byte("network\x00" + seed + "\x00" + name))
			c = append(c, &known{id: hex.EncodeToString(sum[:]), name: name, kind: kind, driver: d})
		}
	}
	add("bridge", "bridge", deps.Bridge)
	add("host", "host", deps.Host)
	add("none", "null", deps.None)
	return c
}

func (c catalog) bridged() bool { return c[0].kind == "bridge" }

// standard is the network of who names none.
func (c catalog) standard() *known {
	if c.bridged() {
		return c[0]
	}
	return c[len(c)-1]
}

// find looks a network up by name, ID or unambiguous beginning of an ID. "default"
// is the bridge, or none where the bridge is switched off.
func (c catalog) find(ref string) (*known, error) {
	if ref == "" || ref == "default" {
		return c.standard(), nil
	}
	var hit *known
	for _, n := range c {
		if n.name == ref || n.id == ref {
			return n, nil
		}
		if strings.HasPrefix(n.id, ref) {
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
func (c catalog) byID(id string) *known {
	for _, n := range c {
		if n.id == id {
			return n
		}
	}
	return nil
}
