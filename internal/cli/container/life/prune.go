package life

import (
	"context"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/opts"
)

// PruneWarning is asked before stopped containers are removed.
const PruneWarning = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"

// BuildPrune is prune.
func BuildPrune(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var force bool
	var filter opts.Filter
	f.BoolVarP(&force, "force", "f", false, "Do not ask for confirmation")
	f.Var(&filter, "filter", `Only what matches (e.g. "until=<timestamp>")`)
	return func(ctx context.Context, _ []string) error {
		return a.Prune(force, PruneWarning, func() (uint64, string, error) { return Prune(ctx, a, filter) })
	}
}

// Prune removes stopped containers, and gives the space freed and a report.
func Prune(ctx context.Context, a *app.App, filter opts.Filter) (uint64, string, error) {
	c, err := a.Client()
	if err != nil {
		return 0, "", err
	}
	var rep container.PruneReport
	if err := c.Post(ctx, "/containers/prune", filter.Query(a.Home.Config().PruneFilters), nil, &rep); err != nil {
		return 0, "", err
	}
	out := ""
	if len(rep.ContainersDeleted) > 0 {
		out = "Deleted Containers:\n"
		for _, id := range rep.ContainersDeleted {
			out += id + "\n"
		}
	}
	return rep.SpaceReclaimed, out, nil
}
