package system

import (
	"context"
	"fmt"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
)

// usage is the answer in both wire forms: totals with items (1.52 and later), and bare lists.
type usage struct {
	system.DiskUsage
	LayersSize int64
	Images     []image.Summary
	Containers []container.Summary
	Volumes    []volume.Volume
	BuildCache []build.CacheRecord
}

func buildDf(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl string
	var verbose bool
	f.StringVar(&tmpl, "format", "", app.FormatHelp)
	f.BoolVarP(&verbose, "verbose", "v", false, "Show what takes the space")
	return func(ctx context.Context, _ []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		q := map[string][]string{}
		if verbose {
			q["verbose"] = []string{"1"}
		}
		var u usage
		if err := c.Get(ctx, "/system/df", q, &u); err != nil {
			return err
		}
		if verbose {
			if err := writeVerbose(a.Out, tmpl, u); err != nil || tmpl != "" && tmpl != format.TableKey {
				return err
			}
			return writeDisk(ctx, c, a.Out)
		}
		if tmpl == "" || tmpl == format.TableKey {
			tmpl = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
		}
		head := map[string]string{"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}
		return format.Write(a.Out, format.Table{Format: tmpl, Header: head}, summaries(u))
	}
}

// DfRow is one kind of things that take space.
type DfRow struct {
	format.Row
	kind              string
	total, active     int64
	size, reclaimable int64
	share             bool // reclaimable with a percentage
}

// Type is the kind.
func (r *DfRow) Type() string { return r.kind }

// TotalCount is how many there are.
func (r *DfRow) TotalCount() string { return fmt.Sprint(r.total) }

// Active is how many are in use.
func (r *DfRow) Active() string { return fmt.Sprint(r.active) }

// Size is the space they take.
func (r *DfRow) Size() string { return units.HumanSize(float64(r.size)) }

// Reclaimable is what pruning would free.
func (r *DfRow) Reclaimable() string {
	s := units.HumanSize(float64(r.reclaimable))
	if r.share && r.size > 0 {
		return fmt.Sprintf("%s (%v%%)", s, r.reclaimable*100/r.size)
	}
	return s
}

func summaries(u usage) []*DfRow {
	if u.ImageUsage != nil || u.ContainerUsage != nil || u.VolumeUsage != nil || u.BuildCacheUsage != nil {
		return totals(u)
	}
	im := &DfRow{kind: "Images", total: int64(len(u.Images)), size: u.LayersSize, share: true}
	var used int64
	for _, i := range u.Images {
		if i.Containers != 0 {
			im.active++
			if i.Size != -1 && i.SharedSize != -1 {
				used += i.Size - i.SharedSize
			}
		}
	}
	im.reclaimable = max(u.LayersSize-used, 0)
	co := &DfRow{kind: "Containers", total: int64(len(u.Containers)), share: true}
	for _, c := range u.Containers {
		co.size += c.SizeRw
		if c.State == container.StateRunning || c.State == container.StatePaused || c.State == container.StateRestarting {
			co.active++
		} else {
			co.reclaimable += c.SizeRw
		}
	}
	vo := &DfRow{kind: "Local Volumes", total: int64(len(u.Volumes)), share: true}
	for _, v := range u.Volumes {
		if v.UsageData == nil {
			continue
		}
		if v.UsageData.Size != -1 {
			vo.size += v.UsageData.Size
			if v.UsageData.RefCount == 0 {
				vo.reclaimable += v.UsageData.Size
			}
		}
		if v.UsageData.RefCount > 0 {
			vo.active++
		}
	}
	bc := &DfRow{kind: "Build Cache", total: int64(len(u.BuildCache))}
	for _, b := range u.BuildCache {
		if b.InUse {
			bc.active++
		} else if !b.Shared {
			bc.reclaimable += b.Size
		}
		if !b.Shared {
			bc.size += b.Size
		}
	}
	return []*DfRow{im, co, vo, bc}
}

func totals(u usage) []*DfRow {
	rows := []*DfRow{{kind: "Images", share: true}, {kind: "Containers", share: true}, {kind: "Local Volumes", share: true}, {kind: "Build Cache"}}
	set := func(r *DfRow, total, active, size, reclaimable int64) {
		r.total, r.active, r.size, r.reclaimable = total, active, size, reclaimable
	}
	if x := u.ImageUsage; x != nil {
		set(rows[0], x.TotalCount, x.ActiveCount, x.TotalSize, x.Reclaimable)
	}
	if x := u.ContainerUsage; x != nil {
		set(rows[1], x.TotalCount, x.ActiveCount, x.TotalSize, x.Reclaimable)
	}
	if x := u.VolumeUsage; x != nil {
		set(rows[2], x.TotalCount, x.ActiveCount, x.TotalSize, x.Reclaimable)
	}
	if x := u.BuildCacheUsage; x != nil {
		set(rows[3], x.TotalCount, x.ActiveCount, x.TotalSize, x.Reclaimable)
	}
	return rows
}
