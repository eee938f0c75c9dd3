package life

import (
	"context"
	"net/url"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

// BuildPause is pause.
func BuildPause(a *app.App, _ *pflag.FlagSet) app.RunFunc { return postEach(a, "pause") }

// BuildUnpause is unpause.
func BuildUnpause(a *app.App, _ *pflag.FlagSet) app.RunFunc { return postEach(a, "unpause") }

func postEach(a *app.App, verb string) app.RunFunc {
	return func(ctx context.Context, args []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		return a.Parallel(args, func(name string) error {
			return c.Post(ctx, "/containers/"+url.PathEscape(name)+"/"+verb, nil, nil, nil)
		})
	}
}
