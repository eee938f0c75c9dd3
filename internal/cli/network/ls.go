package network

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/cli/opts"
)

var header = map[string]string{"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6", "Internal": "INTERNAL", "Labels": "LABELS",
	"CreatedAt": "CREATED AT"}

func buildLs(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl string
	var noTrunc, quiet bool
	var filter opts.Filter
	f.VarP(&filter, "filter", "f", `Only what matches (e.g. "driver=bridge")`)
	f.StringVar(&tmpl, "format", "", app.FormatHelp)
	f.BoolVar(&noTrunc, "no-trunc", false, "Show everything in full")
	f.BoolVarP(&quiet, "quiet", "q", false, "Show IDs only")
	return func(ctx context.Context, _ []string) error {
		c, err := a.Client()
		if err != nil {
			return err
		}
		var list []network.Network
		if err := c.Get(ctx, "/networks", filter.Query(nil), &list); err != nil {
			return err
		}
		slices.SortFunc(list, func(x, y network.Network) int { return strings.Compare(x.Name, y.Name) })
		if tmpl == "" && !quiet {
			tmpl = a.Home.Config().NetworksFormat
		}
		if tmpl == "" {
			tmpl = format.TableKey
		}
		switch {
		case tmpl == format.TableKey && quiet:
			tmpl = "{{.ID}}"
		case tmpl == format.TableKey:
			tmpl = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
		case tmpl == format.RawKey && quiet:
			tmpl = "network_id: {{.ID}}"
		case tmpl == format.RawKey:
			tmpl = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"
		}
		rows := make([]*Row, len(list))
		for i := range list {
			rows[i] = &Row{n: &list[i], trunc: !noTrunc}
		}
		return format.Write(a.Out, format.Table{Format: tmpl, Header: header}, rows)
	}
}

// Row is one network in a list.
type Row struct {
	format.Row
	n     *network.Network
	trunc bool
}

// ID is the network's id.
func (r *Row) ID() string {
	if r.trunc {
		return format.ShortID(r.n.ID)
	}
	return r.n.ID
}

// Name is the network's name.
func (r *Row) Name() string { return r.n.Name }

// Driver is the network's driver.
func (r *Row) Driver() string { return r.n.Driver }

// Scope is local, swarm or global.
func (r *Row) Scope() string { return r.n.Scope }

// IPv4 says whether it gives out IPv4 addresses.
func (r *Row) IPv4() string { return fmt.Sprint(r.n.EnableIPv4) }

// IPv6 says whether it gives out IPv6 addresses.
func (r *Row) IPv6() string { return fmt.Sprint(r.n.EnableIPv6) }

// Internal says whether it has no way out.
func (r *Row) Internal() string { return fmt.Sprint(r.n.Internal) }

// Labels lists the labels.
func (r *Row) Labels() string { return format.Labels(r.n.Labels) }

// Label is one label's value.
func (r *Row) Label(name string) string { return r.n.Labels[name] }

// CreatedAt is the time of creation.
func (r *Row) CreatedAt() string { return r.n.Created.String() }
