package image

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/moby/moby/api/types/image"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
)

func buildRm(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var force, noPrune bool
	var platforms []string
	f.BoolVarP(&force, "force", "f", false, "Remove the image even if containers were made of it")
	f.BoolVar(&noPrune, "no-prune", false, "Keep untagged parents")
	f.StringSliceVar(&platforms, "platform", nil, "Remove these platforms only (os[/arch[/variant]])")
	return func(ctx context.Context, args []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		q := url.Values{}
		if force {
			q.Set("force", "1")
		}
		if noPrune {
			q.Set("noprune", "1")
		}
		if err := addPlatforms(q, "platforms", platforms); err != nil {
			return err
		}
		var errs []error
		fatal := false
		for _, name := range args {
			var out []image.DeleteResponse
			if err := c.Delete(ctx, "/images/"+escape(name), q, &out); err != nil {
				fatal = fatal || !api.IsNotFound(err)
				errs = append(errs, err)
				continue
			}
			for _, d := range out {
				if d.Deleted != "" {
					fmt.Fprintln(a.Out, "Deleted:", d.Deleted)
				} else {
					fmt.Fprintln(a.Out, "Untagged:", d.Untagged)
				}
			}
		}
		if err := errors.Join(errs...); err != nil && (!force || fatal) {
			return err
		} else if err != nil {
			fmt.Fprintln(a.Err, err)
		}
		return nil
	}
}
