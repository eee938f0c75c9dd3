package life

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
)

// BuildRm is rm.
func BuildRm(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var volumes, link, force bool
	f.BoolVarP(&volumes, "volumes", "v", false, "Remove the container's anonymous volumes with it")
	f.BoolVarP(&link, "link", "l", false, "Remove the link, not the container")
	f.BoolVarP(&force, "force", "f", false, "Kill the container if it runs")
	return func(ctx context.Context, args []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		q := url.Values{}
		for k, on := range map[string]bool{"v": volumes, "link": link, "force": force} {
			if on {
				q.Set(k, "1")
			}
		}
		return a.Parallel(args, func(name string) error {
			name = strings.Trim(name, "/")
			if name == "" {
				return errors.New("container name cannot be empty")
			}
			err := c.Delete(ctx, "/containers/"+url.PathEscape(name), q, nil)
			if force && api.IsNotFound(err) {
				fmt.Fprintln(a.Err, err)
				return app.ErrSkip
			}
			return err
		})
	}
}
