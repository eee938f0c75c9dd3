package image

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

func buildTag(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(ctx context.Context, args []string) error {
		if _, err := ref.Parse(args[0]); err != nil && !isID(args[0]) {
			return unparsable(args[0], err)
		}
		r, err := ref.Parse(args[1])
		if err != nil {
			return unparsable(args[1], err)
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

// isID tells an image's ID from a name.
func isID(s string) bool {
	s = strings.TrimPrefix(s, "sha256:")
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func unparsable(name string, err error) error {
	return fmt.Errorf("Error parsing reference: %q is not a valid repository/tag: %w", name, err) // docker's text
}
