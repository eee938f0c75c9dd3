package image

import (
	"context"
	"encoding/json"
	"net/url"

	"github.com/moby/moby/api/types/image"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
)

func buildInspect(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl, platform string
	f.StringVarP(&tmpl, "format", "f", "", app.InspectFormatHelp)
	f.StringVar(&platform, "platform", "", "Show this platform of the image (os[/arch[/variant]])")
	return func(ctx context.Context, args []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		q := url.Values{}
		if platform != "" {
			if err := addPlatforms(q, "platform", []string{platform}); err != nil {
				return err
			}
		}
		return format.Inspect(a.Out, args, tmpl, func(name string) (format.Object, error) { return Get(ctx, c, name, q) })
	}
}

// Get inspects one image.
func Get(ctx context.Context, c *api.Client, name string, q url.Values) (format.Object, error) {
	var raw []byte
	if err := c.Get(ctx, "/images/"+escape(name)+"/json", q, &raw); err != nil {
		return format.Object{}, err
	}
	var typed image.InspectResponse
	if err := json.Unmarshal(raw, &typed); err != nil {
		return format.Object{Raw: raw}, nil
	}
	return format.Object{Raw: raw, Typed: typed}, nil
}
