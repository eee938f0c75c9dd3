package containers

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/containers/names"
)

// changer changes containers' records: names, limits, restart policies.
type changer struct{ *core }

// Rename gives a container another name.
func (c *changer) Rename(ctx context.Context, ref, to string) error {
	e, unlock, err := c.open(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	old := e.snapshot().Name
	name := strings.TrimPrefix(to, "/")
	if name == "" {
		return classed.Invalid("Neither old nor new names may be empty")
	}
	if name == old {
		return classed.Invalid("Renaming a container with the same name as its current name")
	}
	if names.Check(name) != nil {
		return classed.Invalid("Error when allocating new name: Invalid container name (/%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	if err := e.snapshot().may(EvUpdate); err != nil {
		return err
	}
	if err := c.reg.reserve(name, e.id); err != nil {
		return fmt.Errorf("Error when allocating new name: %w", err) // Docker's text
	}
	rec, err := c.change(ctx, e, durable, func(r *Container) { r.Name = name })
	if err != nil {
		c.reg.release(name, e.id)
		return err
	}
	c.reg.release(old, e.id)
	if rec.State.Status.Alive() && len(rec.Sandbox.Endpoints) > 0 {
		sb, err := c.Networks.Rename(ctx, c.sandboxRequest(rec))
		if err != nil {
			c.log.Error("a renamed container is not yet known under its new name", "container", rec.ID, "error", err)
		} else if rec, err = c.change(ctx, e, soon, func(r *Container) { sb.NetNS = nil; r.Sandbox = sb }); err != nil {
			return err
		}
	}
	c.publish(rec, events.ActionRename, map[string]string{"oldName": "/" + old})
	return nil
}
