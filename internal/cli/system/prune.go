package system

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/build"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/container/life"
	"github.com/gantry-engine/gantry/internal/cli/image"
	"github.com/gantry-engine/gantry/internal/cli/network"
	"github.com/gantry-engine/gantry/internal/cli/opts"
	"github.com/gantry-engine/gantry/internal/cli/volume"
)

func buildPrune(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var force, all, volumes bool
	var filter opts.Filter
	f.BoolVarP(&force, "force", "f", false, "Do not ask for confirmation")
	f.BoolVarP(&all, "all", "a", false, "Remove all unused images, not only those without name")
	f.BoolVar(&volumes, "volumes", false, "Remove anonymous volumes too")
	f.Var(&filter, "filter", `Only what matches (e.g. "label=<key>=<value>")`)
	return func(ctx context.Context, _ []string) error {
		if volumes && filter.Has("until") {
			return errors.New(`ERROR: The "until" filter is not supported with "--volumes"`) // docker's text
		}
		if !force {
			if err := a.Confirm(question(all, volumes, filter)); err != nil {
				return err
			}
		}
		type step func() (uint64, string, error)
		steps := []step{
			func() (uint64, string, error) { return life.Prune(ctx, a, filter) },
			func() (uint64, string, error) { out, err := network.Prune(ctx, a, filter); return 0, out, err },
		}
		if volumes {
			steps = append(steps, func() (uint64, string, error) { return volume.Prune(ctx, a, filter) })
		}
		steps = append(steps, func() (uint64, string, error) { return image.Prune(ctx, a, all, filter) },
			func() (uint64, string, error) { return PruneCache(ctx, a, all, "", filter) })
		var total uint64
		for _, s := range steps {
			n, out, err := s()
			if err != nil && !api.IsNotImplemented(err) {
				return err
			}
			total += n
			if out != "" {
				fmt.Fprintln(a.Out, out)
			}
		}
		fmt.Fprintln(a.Out, "Total reclaimed space:", units.HumanSize(float64(total)))
		return nil
	}
}

func question(all, volumes bool, filter opts.Filter) string {
	what := []string{"all stopped containers", "all networks not used by at least one container"}
	if volumes {
		what = append(what, "all anonymous volumes not used by at least one container")
	}
	if all {
		what = append(what, "all images without at least one container associated to them", "all build cache")
	} else {
		what = append(what, "all dangling images", "unused build cache")
	}
	q := "WARNING! This will remove:\n"
	for _, w := range what {
		q += "  - " + w + "\n"
	}
	if keys := filter.Keys(); len(keys) > 0 {
		q += "\n  Items to be pruned will be filtered with:\n"
		for _, k := range keys {
			q += "  - " + k + "=" + strings.Join(filter.Get(k), ", ") + "\n"
		}
	}
	return q + "\nAre you sure you want to continue?"
}

// PruneCache removes build cache, and gives the space freed and a report.
func PruneCache(ctx context.Context, a *app.App, all bool, keep string, filter opts.Filter) (uint64, string, error) {
	c, err := a.Engine.Client()
	if err != nil {
		return 0, "", err
	}
	q := filter.Query(nil)
	if all {
		q.Set("all", "1")
	}
	if keep != "" {
		q.Set("reserved-space", keep)
		q.Set("keep-storage", keep)
	}
	var rep build.CachePruneReport
	if err := c.Post(ctx, "/build/prune", q, nil, &rep); err != nil {
		return 0, "", err
	}
	out := ""
	if len(rep.CachesDeleted) > 0 {
		out = "Deleted build cache objects:\n" + strings.Join(rep.CachesDeleted, "\n") + "\n"
	}
	return rep.SpaceReclaimed, out, nil
}
