package life

import (
	"context"
	"net/url"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

// BuildKill is kill.
func BuildKill(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var signal string
	f.StringVarP(&signal, "signal", "s", "", "Signal to send")
	return func(ctx context.Context, args []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		q := url.Values{}
		if signal != "" {
			q.Set("signal", signal)
		}
		return a.Parallel(args, func(name string) error {
			return c.Post(ctx, "/containers/"+url.PathEscape(name)+"/kill", q, nil, nil)
		})
	}
}
