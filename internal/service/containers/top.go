package containers

import (
	"context"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/containers/ps"
)

// Top lists a container's processes. Without arguments (or with ps's -ef) they are
// read from /proc; other arguments are given to the host's ps.
func (c *querier) Top(ctx context.Context, ref, psArgs string) (container.TopResponse, error) {
	var out container.TopResponse
	e, err := c.reg.get(ref)
	if err != nil {
		return out, err
	}
	rec := e.snapshot()
	if !rec.State.Status.Running() {
		return out, classed.Conflict("container %s is not running", rec.ID)
	}
	if rec.State.Status == Restarting {
		return out, isRestarting.For(rec.ID)
	}
	pids, err := c.Cgroups.Pids(ctx, rec.Cgroup)
	if err != nil {
		return out, err
	}
	slices.Sort(pids)
	switch strings.TrimSpace(psArgs) {
	case "", "-ef":
		out = ps.List(pids, c.now())
	default:
		if out, err = ps.Run(ctx, pids, psArgs); err != nil {
			return out, err
		}
	}
	c.publish(rec, events.ActionTop, nil)
	return out, nil
}
