package show

import (
	"context"
	"encoding/json"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
)

// BuildInspect is inspect.
func BuildInspect(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl string
	var size bool
	f.StringVarP(&tmpl, "format", "f", "", app.InspectFormatHelp)
	f.BoolVarP(&size, "size", "s", false, "Show file sizes")
	return func(ctx context.Context, args []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		return format.Inspect(a.Out, args, tmpl, func(name string) (format.Object, error) { return Get(ctx, c, name, size) })
	}
}

// Get inspects one container.
func Get(ctx context.Context, c *api.Client, name string, size bool) (format.Object, error) {
	q := url.Values{}
	if size {
		q.Set("size", "1")
	}
	var raw []byte
	if err := c.Get(ctx, "/containers/"+url.PathEscape(name)+"/json", q, &raw); err != nil {
		return format.Object{}, err
	}
	var typed container.InspectResponse
	if err := json.Unmarshal(raw, &typed); err != nil {
		return format.Object{Raw: raw}, nil
	}
	return format.Object{Raw: raw, Typed: typed}, nil
}
