package system

import (
	"fmt"
	"io"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/volume"

	"github.com/gantry-engine/gantry/internal/cli/container/show"
	"github.com/gantry-engine/gantry/internal/cli/format"
	cliimage "github.com/gantry-engine/gantry/internal/cli/image"
	clivolume "github.com/gantry-engine/gantry/internal/cli/volume"
)

func (u usage) items() (images []image.Summary, containers []container.Summary, volumes []volume.Volume, cache []build.CacheRecord) {
	images, containers, volumes, cache = u.Images, u.Containers, u.Volumes, u.BuildCache
	if u.ImageUsage != nil {
		images = u.ImageUsage.Items
	}
	if u.ContainerUsage != nil {
		containers = u.ContainerUsage.Items
	}
	if u.VolumeUsage != nil {
		volumes = u.VolumeUsage.Items
	}
	if u.BuildCacheUsage != nil {
		cache = u.BuildCacheUsage.Items
	}
	return images, containers, volumes, cache
}

func writeVerbose(w io.Writer, tmpl string, u usage) error {
	images, containers, volumes, cache := u.items()
	if tmpl != "" && tmpl != format.TableKey {
		out, err := format.Execute(tmpl, struct {
			Images     []*cliimage.Row
			Containers []*show.Row
			Volumes    []*clivolume.Row
			BuildCache []build.CacheRecord
		}{cliimage.Rows(images), show.Rows(containers, true), clivolume.Rows(volumes), cache})
		if err == nil {
			fmt.Fprintln(w, out)
		}
		return err
	}
	fmt.Fprint(w, "Images space usage:\n\n")
	if err := format.Write(w, format.Table{Format: "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}", Header: cliimage.Header}, cliimage.Rows(images)); err != nil {
		return err
	}
	fmt.Fprint(w, "\nContainers space usage:\n\n")
	head := map[string]string{}
	for k, v := range show.Header {
		head[k] = v
	}
	if err := format.Write(w, format.Table{Format: "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}", Header: head}, show.Rows(containers, true)); err != nil {
		return err
	}
	fmt.Fprint(w, "\nLocal Volumes space usage:\n\n")
	if err := format.Write(w, format.Table{Format: "table {{.Name}}\t{{.Links}}\t{{.Size}}", Header: clivolume.Header}, clivolume.Rows(volumes)); err != nil {
		return err
	}
	var size int64
	rows := make([]*CacheRow, 0, len(cache))
	for i := range cache {
		if !cache[i].Shared {
			size += cache[i].Size
		}
		rows = append(rows, &CacheRow{c: &cache[i]})
	}
	fmt.Fprintf(w, "\nBuild cache usage: %s\n\n", units.HumanSize(float64(size)))
	return format.Write(w, format.Table{Format: "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.UsageCount}}\t{{.Shared}}", Header: map[string]string{"ID": "CACHE ID", "CacheType": "CACHE TYPE",
		"Size": "SIZE", "UsageCount": "USAGE", "Shared": "SHARED"}}, rows)
}

// CacheRow is one record of the build cache.
type CacheRow struct {
	format.Row
	c *build.CacheRecord
}

// ID is the record's id, starred while in use.
func (r *CacheRow) ID() string {
	id := format.ShortID(r.c.ID)
	if r.c.InUse {
		id += "*"
	}
	return id
}

// CacheType is what was cached.
func (r *CacheRow) CacheType() string { return r.c.Type }

// Size is the space it takes.
func (r *CacheRow) Size() string { return units.HumanSizeWithPrecision(float64(r.c.Size), 3) }

// UsageCount is how often it was of use.
func (r *CacheRow) UsageCount() string { return fmt.Sprint(r.c.UsageCount) }

// Shared says whether others hold the same bytes.
func (r *CacheRow) Shared() string { return fmt.Sprint(r.c.Shared) }
