package volume

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/cli/opts"
)

func buildLs(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl string
	var quiet, cluster bool
	var filter opts.Filter
	f.BoolVar(&cluster, "cluster", false, "Show cluster volumes only")
	f.VarP(&filter, "filter", "f", `Only what matches (e.g. "dangling=true")`)
	f.StringVar(&tmpl, "format", "", app.FormatHelp)
	f.BoolVarP(&quiet, "quiet", "q", false, "Show names only")
	return func(ctx context.Context, _ []string) error {
		c, err := a.Client()
		if err != nil {
			return err
		}
		var out volume.ListResponse
		if err := c.Get(ctx, "/volumes", filter.Query(nil), &out); err != nil {
			return err
		}
		if tmpl == "" && !quiet {
			tmpl = a.Home.Config().VolumesFormat
		}
		if tmpl == "" {
			tmpl = format.TableKey
		}
		switch {
		case tmpl == format.TableKey && quiet:
			tmpl = "{{.Name}}"
		case tmpl == format.TableKey:
			tmpl = "table {{.Driver}}\t{{.Name}}"
		case tmpl == format.RawKey && quiet:
			tmpl = "name: {{.Name}}"
		case tmpl == format.RawKey:
			tmpl = "name: {{.Name}}\ndriver: {{.Driver}}\n"
		}
		list := slices.DeleteFunc(out.Volumes, func(v volume.Volume) bool { return cluster && v.ClusterVolume == nil })
		slices.SortFunc(list, func(x, y volume.Volume) int { return strings.Compare(x.Name, y.Name) })
		return format.Write(a.Out, format.Table{Format: tmpl, Header: Header}, Rows(list))
	}
}

// Header is the titles of the columns.
var Header = map[string]string{"Name": "VOLUME NAME", "Driver": "DRIVER", "Labels": "LABELS", "Mountpoint": "MOUNTPOINT", "Scope": "SCOPE", "Links": "LINKS", "Size": "SIZE",
	"Group": "GROUP", "Availability": "AVAILABILITY", "Status": "STATUS"}

// Rows makes rows of volumes.
func Rows(list []volume.Volume) []*Row {
	out := make([]*Row, len(list))
	for i := range list {
		out[i] = &Row{v: &list[i]}
	}
	return out
}

// Row is one volume in a list.
type Row struct {
	format.Row
	v *volume.Volume
}

// Name is the volume's name.
func (r *Row) Name() string { return r.v.Name }

// Driver is the volume's driver.
func (r *Row) Driver() string { return r.v.Driver }

// Scope is local or global.
func (r *Row) Scope() string { return r.v.Scope }

// Mountpoint is where it is on the host.
func (r *Row) Mountpoint() string { return r.v.Mountpoint }

// Labels lists the labels.
func (r *Row) Labels() string { return format.Labels(r.v.Labels) }

// Label is one label's value.
func (r *Row) Label(name string) string { return r.v.Labels[name] }

// Links is how many containers use it.
func (r *Row) Links() string {
	if r.v.UsageData == nil {
		return "N/A"
	}
	return fmt.Sprint(r.v.UsageData.RefCount)
}

// Size is the space it takes.
func (r *Row) Size() string {
	if r.v.UsageData == nil {
		return "N/A"
	}
	return units.HumanSize(float64(r.v.UsageData.Size))
}

// Group is a cluster volume's group.
func (r *Row) Group() string {
	if r.v.ClusterVolume == nil {
		return "N/A"
	}
	return r.v.ClusterVolume.Spec.Group
}

// Availability is a cluster volume's availability.
func (r *Row) Availability() string {
	if r.v.ClusterVolume == nil {
		return "N/A"
	}
	return string(r.v.ClusterVolume.Spec.Availability)
}

// Status says what a cluster volume is doing.
func (r *Row) Status() string {
	if r.v.ClusterVolume == nil {
		return "N/A"
	}
	if r.v.ClusterVolume.Info == nil || r.v.ClusterVolume.Info.VolumeID == "" {
		return "pending creation"
	}
	return "created"
}
