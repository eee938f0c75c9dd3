package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/opts"
	"github.com/gantry-engine/gantry/internal/cli/system"
)

// buildBuild stands for the build command while no builder is there: it says so, and sends nothing.
func buildBuild(_ *app.App, f *pflag.FlagSet) app.RunFunc {
	f.ParseErrorsAllowlist.UnknownFlags = true
	return func(context.Context, []string) error {
		return errors.New("this version cannot build images yet: install the buildx plugin (~/.docker/cli-plugins/docker-buildx), or import an image with 'gantry load' or 'gantry import'")
	}
}

// Builder is `builder`, of which prune is there.
func Builder() *app.Command {
	return &app.Command{Name: "builder", Args: "COMMAND", Short: "Manage builds", Group: "management", Sub: func() []*app.Command {
		return []*app.Command{{Name: "prune", Args: "[OPTIONS]", Short: "Remove build cache", Check: app.NoArgs, Build: buildPrune}}
	}}
}

func buildPrune(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var all, force bool
	var keep opts.Bytes
	var filter opts.Filter
	f.BoolVarP(&all, "all", "a", false, "Remove all unused build cache, not only what dangles")
	f.Var(&filter, "filter", `Only what matches (e.g. "until=24h")`)
	f.BoolVarP(&force, "force", "f", false, "Do not ask for confirmation")
	f.Var(&keep, "keep-storage", "Disk space to keep for cache")
	return func(ctx context.Context, _ []string) error {
		k := ""
		if keep > 0 {
			k = fmt.Sprint(int64(keep))
		}
		question := "WARNING! This will remove all dangling build cache. Are you sure you want to continue?"
		return a.Prune(force, question, func() (uint64, string, error) { return system.PruneCache(ctx, a, all, k, filter) })
	}
}
