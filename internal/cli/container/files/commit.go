package files

import (
	"context"
	"fmt"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/opts"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

// BuildCommit is commit.
func BuildCommit(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var author, message string
	var noPause bool
	var changes opts.List
	pause := true
	f.StringVarP(&author, "author", "a", "", `Author ("John Smith <john@example.org>")`)
	f.VarP(&changes, "change", "c", "Apply a Dockerfile instruction to the image")
	f.StringVarP(&message, "message", "m", "", "Commit message")
	f.BoolVar(&noPause, "no-pause", false, "Do not pause the container meanwhile")
	f.BoolVarP(&pause, "pause", "p", true, "Pause the container meanwhile")
	_ = f.MarkDeprecated("pause", "and enabled by default. Use --no-pause to disable pausing during commit.")
	return func(ctx context.Context, args []string) error {
		q := url.Values{"container": {args[0]}, "comment": {message}, "author": {author}, "changes": changes.Values}
		if len(args) > 1 && args[1] != "" {
			r, err := ref.Parse(args[1])
			if err != nil {
				return err
			}
			r = r.WithTag()
			q.Set("repo", r.Name())
			q.Set("tag", r.Tag)
		}
		if noPause || !pause {
			q.Set("pause", "0")
		}
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		var out container.CommitResponse
		if err := c.Post(ctx, "/commit", q, nil, &out); err != nil {
			return err
		}
		fmt.Fprintln(a.Out, out.ID)
		return nil
	}
}
