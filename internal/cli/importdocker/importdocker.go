// Package importdocker is the command line of `gantry system import-docker`: the flags, which gantry knows for its help and
// completion, and the report. The work is done by an executable of its own, gantry-import, since what reads Docker's files would
// make every start of gantry slower.
package importdocker

import (
	"context"
	"fmt"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
)

const help = `Take images, networks, volumes and containers over from a Docker data root

Docker's data root is only read; Docker may be stopped or running. Everything goes into the
engine that this command talks to, which has to be on this machine for volumes. Images keep
the digests of their configurations and layers; volumes keep owners, modes, extended
attributes, hard links and holes; containers are made again, under their names, and are not
started. Without --images, --networks, --volumes or --containers all of them are taken.

What is here already is skipped, so that an interrupted run can be repeated. What has the name
here but is another thing is reported and left alone, unless --force is given. The report says
what was not taken, and why; the exit status is 1 then.`

// Options are what the flags say.
type Options struct {
	DataRoot, Driver                      string
	Images, Networks, Volumes, Containers bool
	All, Writable, Force                  bool
	DryRun, StopOnError, Quiet            bool
	Format                                string
}

// Row is a line of the report.
type Row struct {
	format.Row
	K, N, R, Remark string
	Bytes           int64
}

// Kind is what it is.
func (r *Row) Kind() string { return r.K }

// Name is what it is called.
func (r *Row) Name() string { return r.N }

// Result is what became of it.
func (r *Row) Result() string { return r.R }

// Size is how much was copied.
func (r *Row) Size() string { return units.HumanSize(float64(r.Bytes)) }

// Note is what the user has to know.
func (r *Row) Note() string { return r.Remark }

// Command is the verb; run does its work, or has it done.
func Command(run func(context.Context, *app.App, Options) error) *app.Command {
	return &app.Command{Name: "import-docker", Args: "[OPTIONS]", Short: "Take over what a Docker engine on this machine has", Long: help, Check: app.NoArgs,
		Build: func(a *app.App, f *pflag.FlagSet) app.RunFunc {
			var o Options
			f.StringVar(&o.DataRoot, "data-root", "/var/lib/docker", "Docker's data root")
			f.StringVar(&o.Driver, "storage-driver", "", "Docker's storage driver, where the data root has several")
			f.BoolVar(&o.Images, "images", false, "Take images")
			f.BoolVar(&o.Networks, "networks", false, "Take networks")
			f.BoolVar(&o.Volumes, "volumes", false, "Take volumes")
			f.BoolVar(&o.Containers, "containers", false, "Take containers")
			f.BoolVarP(&o.All, "all", "a", false, "Take images, too, that have neither a name nor a container")
			f.BoolVar(&o.Writable, "writable", false, "Take what containers wrote outside volumes, as images called imported/NAME")
			f.BoolVarP(&o.Force, "force", "f", false, "Replace what has the name here and is another thing")
			f.BoolVar(&o.DryRun, "dry-run", false, "Say what would be taken, and take nothing")
			f.BoolVar(&o.StopOnError, "stop-on-error", false, "End with the first thing that cannot be taken")
			f.BoolVarP(&o.Quiet, "quiet", "q", false, "No progress")
			f.StringVar(&o.Format, "format", "", app.FormatHelp)
			return func(ctx context.Context, _ []string) error {
				if !o.Images && !o.Networks && !o.Volumes && !o.Containers {
					o.Images, o.Networks, o.Volumes, o.Containers = true, true, true, true
				}
				return run(ctx, a, o)
			}
		}}
}

// Write prints the report.
func Write(a *app.App, o Options, rows []*Row) error {
	tmpl := o.Format
	if tmpl == "" || tmpl == format.TableKey {
		tmpl = "table {{.Kind}}\t{{.Name}}\t{{.Result}}\t{{.Size}}\t{{.Note}}"
	}
	if len(rows) == 0 && format.IsTable(tmpl) {
		fmt.Fprintf(a.Out, "%s has nothing to take over.\n", o.DataRoot)
		return nil
	}
	head := map[string]string{"Kind": "KIND", "Name": "NAME", "Result": "RESULT", "Size": "SIZE", "Note": "NOTE"}
	return format.Write(a.Out, format.Table{Format: tmpl, Header: head}, rows)
}
