package image

import (
	"context"

	"github.com/moby/moby/api/types/image"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/opts"
)

func buildPrune(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var force, all bool
	var filter opts.Filter
	f.BoolVarP(&force, "force", "f", false, "Do not ask for confirmation")
	f.BoolVarP(&all, "all", "a", false, "Remove all unused images, not only those without name")
	f.Var(&filter, "filter", `Only what matches (e.g. "until=<timestamp>")`)
	return func(ctx context.Context, _ []string) error {
		warning := "WARNING! This will remove all dangling images.\nAre you sure you want to continue?"
		if all {
			warning = "WARNING! This will remove all images without at least one container associated to them.\nAre you sure you want to continue?"
		}
		return a.Prune(force, warning, func() (uint64, string, error) { return Prune(ctx, a, all, filter) })
	}
}

// Prune removes unused images, and gives the space freed and a report.
func Prune(ctx context.Context, a *app.App, all bool, filter opts.Filter) (uint64, string, error) {
	c, err := a.Client()
	if err != nil {
		return 0, "", err
	}
	dangling := "dangling=true"
	if all {
		dangling = "dangling=false"
	}
	var rep struct {
		ImagesDeleted  []image.DeleteResponse
		SpaceReclaimed uint64
	}
	if err := c.Post(ctx, "/images/prune", filter.Query(append([]string{dangling}, a.Home.Config().PruneFilters...)), nil, &rep); err != nil {
		return 0, "", err
	}
	out := ""
	if len(rep.ImagesDeleted) > 0 {
		out = "Deleted Images:\n"
		for _, d := range rep.ImagesDeleted {
			if d.Untagged != "" {
				out += "untagged: " + d.Untagged + "\n"
			} else {
				out += "deleted: " + d.Deleted + "\n"
			}
		}
	}
	return rep.SpaceReclaimed, out, nil
}
