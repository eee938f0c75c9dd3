package containers

import (
	"context"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/classed"
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
	until, err := untilOf(args, p.now())
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

// untilOf reads the filter until: a time stamp, seconds since 1970, or a span back from now.
func untilOf(args filters.Args, now time.Time) (time.Time, error) {
	vs := args["until"]
	if len(vs) == 0 {
		return time.Time{}, nil
	}
	if len(vs) > 1 {
		return time.Time{}, classed.Invalid("more than one until filter specified")
	}
	v := vs[0]
	if d, err := time.ParseDuration(v); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, v, time.Local); err == nil {
			return t, nil
		}
	}
	if f, err := strconv.ParseFloat(v, 64); err == nil {
		return time.Unix(0, int64(f*float64(time.Second))), nil
	}
	return time.Time{}, classed.Invalid("invalid filter 'until=%s': a time or a duration is needed", v)
}
