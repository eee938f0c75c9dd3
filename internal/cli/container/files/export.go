package files

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

// BuildExport is export.
func BuildExport(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var output string
	f.StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	return func(ctx context.Context, args []string) error {
		if output == "" && a.Out.IsTerminal() {
			return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
		}
		out, err := a.CreateOutput(output)
		if err != nil {
			return fmt.Errorf("failed to export container: %w", err)
		}
		defer out.Discard()
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		body, err := c.Stream(ctx, "/containers/"+url.PathEscape(args[0])+"/export", nil)
		if err != nil {
			return err
		}
		defer body.Close()
		return out.Fill(body)
	}
}
