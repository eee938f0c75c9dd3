// Package volume has the verbs for volumes.
package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/cli/opts"
)

// Group is `volume` with its verbs.
func Group() *app.Command {
	return &app.Command{Name: "volume", Args: "COMMAND", Short: "Manage volumes", Group: "management", Sub: func() []*app.Command {
		return []*app.Command{
			{Name: "create", Args: "[OPTIONS] [VOLUME]", Short: "Create a volume", Check: app.MaxArgs(1), Build: buildCreate},
			{Name: "inspect", Args: "[OPTIONS] VOLUME [VOLUME...]", Short: "Show everything about one or more volumes", Check: app.MinArgs(1), Build: buildInspect},
			{Name: "ls", Aliases: []string{"list"}, Args: "[OPTIONS]", Short: "List volumes", AKA: []string{"volume ls", "volume list"}, Check: app.NoArgs, Build: buildLs},
			{Name: "prune", Args: "[OPTIONS]", Short: "Remove unused volumes", Check: app.NoArgs, Build: buildPrune},
			{Name: "rm", Aliases: []string{"remove"}, Args: "[OPTIONS] VOLUME [VOLUME...]", Short: "Remove one or more volumes", AKA: []string{"volume rm", "volume remove"}, Check: app.MinArgs(1), Build: buildRm},
			{Name: "update", Args: "[OPTIONS] VOLUME", Short: "Change a cluster volume", Check: app.ExactArgs(1), Build: buildUpdate},
		}
	}}
}

func buildInspect(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl string
	f.StringVarP(&tmpl, "format", "f", "", app.InspectFormatHelp)
	return func(ctx context.Context, args []string) error {
		c, err := a.Client()
		if err != nil {
			return err
		}
		return format.Inspect(a.Out, args, tmpl, func(name string) (format.Object, error) { return Get(ctx, c, name) })
	}
}

// Get inspects one volume.
func Get(ctx context.Context, c *api.Client, name string) (format.Object, error) {
	var raw []byte
	if err := c.Get(ctx, "/volumes/"+url.PathEscape(name), nil, &raw); err != nil {
		return format.Object{}, err
	}
	var typed volume.Volume
	if err := json.Unmarshal(raw, &typed); err != nil {
		return format.Object{Raw: raw}, nil
	}
	return format.Object{Raw: raw, Typed: typed}, nil
}

func buildRm(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var force bool
	f.BoolVarP(&force, "force", "f", false, "Remove the volumes whatever the driver says")
	return func(ctx context.Context, args []string) error {
		c, err := a.Client()
		if err != nil {
			return err
		}
		q := url.Values{}
		if force {
			q.Set("force", "1")
		}
		return a.Each(args, func(n string) error { return c.Delete(ctx, "/volumes/"+url.PathEscape(n), q, nil) })
	}
}

func buildUpdate(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var availability string
	f.StringVar(&availability, "availability", "active", `Availability of the cluster volume ("active", "pause", "drain")`)
	return func(ctx context.Context, args []string) error {
		c, err := a.Client()
		if err != nil {
			return err
		}
		var v volume.Volume
		if err := c.Get(ctx, "/volumes/"+url.PathEscape(args[0]), nil, &v); err != nil {
			return err
		}
		if v.ClusterVolume == nil {
			return errors.New("can only update cluster volumes")
		}
		if f.Changed("availability") {
			v.ClusterVolume.Spec.Availability = volume.Availability(availability)
		}
		q := url.Values{"version": {fmt.Sprint(v.ClusterVolume.Version.Index)}}
		return c.JSON(ctx, api.Request{Method: "PUT", Path: "/volumes/" + url.PathEscape(v.ClusterVolume.ID), Query: q, Body: map[string]any{"Spec": v.ClusterVolume.Spec}}, nil)
	}
}

func buildPrune(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var force, all bool
	var filter opts.Filter
	f.BoolVarP(&all, "all", "a", false, "Remove all unused volumes, not only anonymous ones")
	f.BoolVarP(&force, "force", "f", false, "Do not ask for confirmation")
	f.Var(&filter, "filter", `Only what matches (e.g. "label=<label>")`)
	return func(ctx context.Context, _ []string) error {
		warning := "WARNING! This will remove anonymous local volumes not used by at least one container.\nAre you sure you want to continue?"
		if all {
			if filter.Has("all") {
				return fmt.Errorf("conflicting options: cannot specify both --all and --filter all=%s", filter.Get("all")[0])
			}
			filter.Add("all", "true")
			warning = "WARNING! This will remove all local volumes not used by at least one container.\nAre you sure you want to continue?"
		}
		return a.Prune(force, warning, func() (uint64, string, error) { return Prune(ctx, a, filter) })
	}
}

// Prune removes unused volumes, and gives the space freed and a report.
func Prune(ctx context.Context, a *app.App, filter opts.Filter) (uint64, string, error) {
	c, err := a.Client()
	if err != nil {
		return 0, "", err
	}
	var rep volume.PruneReport
	if err := c.Post(ctx, "/volumes/prune", filter.Query(a.Home.Config().PruneFilters), nil, &rep); err != nil {
		return 0, "", err
	}
	out := ""
	if len(rep.VolumesDeleted) > 0 {
		slices.Sort(rep.VolumesDeleted)
		out = "Deleted Volumes:\n"
		for _, v := range rep.VolumesDeleted {
			out += v + "\n"
		}
	}
	return rep.SpaceReclaimed, out, nil
}
