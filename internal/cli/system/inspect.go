package system

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/container/show"
	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/cli/image"
	"github.com/gantry-engine/gantry/internal/cli/network"
	"github.com/gantry-engine/gantry/internal/cli/volume"
)

type finder struct {
	kind string
	get  func(ctx context.Context, c *api.Client, name string, size bool) (format.Object, error)
}

// finders are asked in this order when the type is not given.
var finders = []finder{
	{"container", show.Get},
	{"image", func(ctx context.Context, c *api.Client, n string, _ bool) (format.Object, error) {
		return image.Get(ctx, c, n, nil)
	}},
	{"network", func(ctx context.Context, c *api.Client, n string, _ bool) (format.Object, error) {
		return network.Get(ctx, c, n, false)
	}},
	{"volume", func(ctx context.Context, c *api.Client, n string, _ bool) (format.Object, error) {
		return volume.Get(ctx, c, n)
	}},
	{"service", raw("/services/")}, {"task", raw("/tasks/")}, {"node", raw("/nodes/")}, {"plugin", raw("/plugins/")}, {"secret", raw("/secrets/")}, {"config", raw("/configs/")},
}

func raw(path string) func(context.Context, *api.Client, string, bool) (format.Object, error) {
	return func(ctx context.Context, c *api.Client, name string, _ bool) (format.Object, error) {
		p := path + url.PathEscape(name)
		if path == "/plugins/" {
			p += "/json"
		}
		var b []byte
		err := c.Get(ctx, p, nil, &b)
		return format.Object{Raw: b}, err
	}
}

func buildInspect(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl, kind string
	var size bool
	f.StringVarP(&tmpl, "format", "f", "", app.InspectFormatHelp)
	f.BoolVarP(&size, "size", "s", false, "Show file sizes of containers")
	f.StringVar(&kind, "type", "", "Look for objects of this type only")
	return func(ctx context.Context, args []string) error {
		var kinds []string
		for _, x := range finders {
			kinds = append(kinds, x.kind)
		}
		slices.Sort(kinds)
		if f.Changed("type") && !slices.Contains(kinds, kind) {
			if kind == "" {
				return fmt.Errorf(`type is empty: must be one of "%s"`, strings.Join(kinds, `", "`))
			}
			return fmt.Errorf(`unknown type: %q: must be one of "%s"`, kind, strings.Join(kinds, `", "`))
		}
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		return format.Inspect(a.Out, args, tmpl, func(name string) (format.Object, error) { return find(ctx, c, kind, name, size) })
	}
}

func find(ctx context.Context, c *api.Client, kind, name string, size bool) (format.Object, error) {
	for _, x := range finders {
		if kind != "" && x.kind != kind {
			continue
		}
		o, err := x.get(ctx, c, name, size && x.kind == "container")
		if err == nil || kind != "" {
			return o, err
		}
		if !absent(err) {
			return o, err
		}
	}
	return format.Object{}, fmt.Errorf("Error: No such object: %s", name)
}

// absent says whether an error only means "not of this kind": not found, no swarm, no such feature.
func absent(err error) bool {
	if api.IsNotFound(err) || api.IsNotImplemented(err) {
		return true
	}
	text := err.Error()
	return strings.Contains(text, "This node is not a swarm manager") || strings.Contains(text, "not part of a swarm") || strings.Contains(text, "invalid reference format")
}
