package life

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

// BuildRename is rename.
func BuildRename(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(ctx context.Context, args []string) error {
		from, to := strings.TrimSpace(args[0]), strings.TrimSpace(args[1])
		if from == "" || to == "" {
			return errors.New("Error: Neither old nor new names may be empty") // docker's text
		}
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		return c.Post(ctx, "/containers/"+url.PathEscape(from)+"/rename", url.Values{"name": {to}}, nil, nil)
	}
}
