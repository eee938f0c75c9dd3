// Package life has the verbs that end, pause, rename and change containers.
package life

import (
	"context"
	"net/url"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

// BuildStop is stop.
func BuildStop(a *app.App, f *pflag.FlagSet) app.RunFunc { return stopLike(a, f, "stop") }

// BuildRestart is restart.
func BuildRestart(a *app.App, f *pflag.FlagSet) app.RunFunc { return stopLike(a, f, "restart") }

func stopLike(a *app.App, f *pflag.FlagSet, verb string) app.RunFunc {
	var signal string
	var timeout int
	f.StringVarP(&signal, "signal", "s", "", "Signal that asks the container to stop")
	f.IntVarP(&timeout, "timeout", "t", 0, "Seconds to wait before killing")
	f.IntVar(&timeout, "time", 0, "Seconds to wait before killing")
	_ = f.MarkDeprecated("time", "use --timeout instead")
	return func(ctx context.Context, args []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		q := url.Values{}
		if signal != "" {
			q.Set("signal", signal)
		}
		if f.Changed("timeout") || f.Changed("time") {
			q.Set("t", strconv.Itoa(timeout))
		}
		do := func(name string) error {
			return c.Post(ctx, "/containers/"+url.PathEscape(name)+"/"+verb, q, nil, nil)
		}
		if verb == "restart" {
			return a.Each(args, do)
		}
		return a.Parallel(args, do)
	}
}
