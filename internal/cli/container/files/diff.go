package files

import (
	"context"
	"fmt"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

// BuildDiff is diff.
func BuildDiff(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(ctx context.Context, args []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		var changes []container.FilesystemChange
		if err := c.Get(ctx, "/containers/"+url.PathEscape(args[0])+"/changes", nil, &changes); err != nil {
			return err
		}
		for _, ch := range changes {
			fmt.Fprintln(a.Out, ch.Kind.String()+" "+ch.Path)
		}
		return nil
	}
}
