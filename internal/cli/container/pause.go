package container

import (
	"context"
	"net/url"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

func buildPause(a *app.App, _ *pflag.FlagSet) app.RunFunc   { return postEach(a, "pause") }
func buildUnpause(a *app.App, _ *pflag.FlagSet) app.RunFunc { return postEach(a, "unpause") }

func postEach(a *app.App, verb string) app.RunFunc {
	return func(ctx context.Context, args []string) error {
		c, err := a.Client()
		if err != nil {
			return err
		}
		return a.Parallel(args, func(name string) error {
			return c.Post(ctx, "/containers/"+url.PathEscape(name)+"/"+verb, nil, nil, nil)
		})
	}
}
