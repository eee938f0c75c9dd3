package image

import (
	"context"
	"errors"
	"net/url"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

func buildTag(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(ctx context.Context, args []string) error {
		r, err := ref.Parse(args[1])
		if err != nil {
			return err
		}
		if r.Digest != "" {
			return errors.New("refusing to create a tag with a digest reference")
		}
		r = r.WithTag()
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		return c.Post(ctx, "/images/"+escape(args[0])+"/tag", url.Values{"repo": {r.Name()}, "tag": {r.Tag}}, nil, nil)
	}
}
