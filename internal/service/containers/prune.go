package containers

import (
	"context"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/filters"
)

// pruner removes containers that do not run.
type pruner struct {
	*core
	remove *remover
}

// Prune removes stopped containers that fit the filters until, label and label!.
func (p *pruner) Prune(ctx context.Context, args filters.Args) (container.PruneReport, error) {
	rep := container.PruneReport{ContainersDeleted: []string{}}
	if err := args.Check("label", "label!", "until"); err != nil {
		return rep, err
	}
	until, err := args.Until(p.now())
	if err != nil {
		return rep, err
	}
	for _, rec := range p.reg.all() {
		if rec.Running() || !until.IsZero() && rec.Created.After(until) ||
			!args.Labels("label", rec.Config.Labels) || !args.NoLabels("label!", rec.Config.Labels) {
			continue
		}
		if ctx.Err() != nil {
			return rep, context.Cause(ctx)
		}
		rw, _, sizeErr := p.Layers.Usage(ctx, rec.ID)
		if err := p.remove.Remove(ctx, rec.ID, RemoveOptions{}); err != nil {
			if errdefs.IsConflict(err) || errdefs.IsNotFound(err) { // started or removed meanwhile
				continue
			}
			p.log.Warn("a container could not be pruned", "container", rec.ID, "error", err)
			continue
		}
		if sizeErr == nil && rw > 0 {
			rep.SpaceReclaimed += uint64(rw)
		}
		rep.ContainersDeleted = append(rep.ContainersDeleted, rec.ID)
	}
	p.Events.Publish(events.Message{Type: events.ContainerEventType, Action: events.ActionPrune,
		Actor: events.Actor{Attributes: map[string]string{"reclaimed": strconv.FormatUint(rep.SpaceReclaimed, 10)}}})
	return rep, nil
}
