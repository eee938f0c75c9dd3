// Package show has the verbs that look at containers: ps, inspect, logs, port, stats, top.
package show

import (
	"context"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/cli/opts"
)

type psOptions struct {
	all, latest, noTrunc, quiet, size bool
	last                              int
	format                            string
	filter                            opts.Filter
}

// BuildPs is ps.
func BuildPs(a *app.App, f *pflag.FlagSet) app.RunFunc {
	o := &psOptions{}
	f.BoolVarP(&o.all, "all", "a", false, "Show all containers, not only those that run")
	f.VarP(&o.filter, "filter", "f", "Only what matches")
	f.StringVar(&o.format, "format", "", app.FormatHelp)
	f.IntVarP(&o.last, "last", "n", -1, "Show the n containers created last, whatever their state")
	f.BoolVarP(&o.latest, "latest", "l", false, "Show the container created last, whatever its state")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Show everything in full")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show IDs only")
	f.BoolVarP(&o.size, "size", "s", false, "Show file sizes")
	return func(ctx context.Context, _ []string) error { return ps(ctx, a, o, f.Changed("size")) }
}

const psTable = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"

func ps(ctx context.Context, a *app.App, o *psOptions, sizeGiven bool) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	f := o.format
	if f == "" && !o.quiet {
		f = a.Home.Config().PsFormat
	}
	if f == "" {
		f = format.TableKey
	}
	size := o.size
	if !sizeGiven && strings.Contains(f, ".Size") {
		size = true
	}
	q := o.filter.Query(nil)
	if o.all {
		q.Set("all", "1")
	}
	if o.latest && o.last == -1 {
		o.last = 1
	}
	if o.last > 0 {
		q.Set("limit", strconv.Itoa(o.last))
	}
	if size {
		q.Set("size", "1")
	}
	// A wrong template fails before anything is asked.
	if err := format.Check(f, &Row{s: &container.Summary{Names: []string{"/x"}}}); err != nil {
		return err
	}
	var list []container.Summary
	if err := c.Get(ctx, "/containers/json", q, &list); err != nil {
		return err
	}
	return format.Write(a.Out, table(f, o.quiet, size, !o.noTrunc), rows(list, !o.noTrunc))
}

func table(f string, quiet, size, trunc bool) format.Table {
	switch {
	case f == format.TableKey && quiet:
		f = "{{.ID}}"
	case f == format.TableKey:
		f = psTable
		if size {
			f += "\t{{.Size}}"
		}
	case f == format.RawKey && quiet:
		f = "container_id: {{.ID}}"
	case f == format.RawKey:
		f = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n"
		if size {
			f += "size: {{.Size}}\n"
		}
	}
	return format.Table{Format: f, Header: Header, Trunc: trunc}
}

func rows(list []container.Summary, trunc bool) []*Row {
	out := make([]*Row, len(list))
	for i := range list {
		out[i] = &Row{s: &list[i], trunc: trunc}
	}
	return out
}

// Rows prints a list of containers as ps does, for other verbs.
func Rows(list []container.Summary, trunc bool) []*Row { return rows(list, trunc) }
