package system

import (
	"context"
	"fmt"
	"io"
	"path"

	"github.com/docker/go-units"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/spec"
)

// writeDisk tells what each byte of the engine's data root is. Other engines than Gantry do not say.
func writeDisk(ctx context.Context, c *api.Client, w io.Writer) error {
	var u spec.DiskUse
	if err := c.Get(ctx, "/system/disk", nil, &u); err != nil {
		if api.IsNotFound(err) {
			return nil
		}
		return err
	}
	fmt.Fprintf(w, "\nDisk space of %s: %s, %s free\n\n", u.Root, units.HumanSize(float64(u.Total)), units.HumanSize(float64(u.Free)))
	rows := make([]*DiskRow, 0, len(u.Parts))
	for _, p := range u.Parts {
		if p.Bytes > 0 {
			rows = append(rows, &DiskRow{p: p})
		}
	}
	head := map[string]string{"What": "WHAT", "Count": "COUNT", "Size": "SIZE", "Where": "WHERE"}
	if err := format.Write(w, format.Table{Format: "table {{.What}}\t{{.Count}}\t{{.Size}}\t{{.Where}}", Header: head}, rows); err != nil {
		return err
	}
	if u.Spared > 0 {
		fmt.Fprintf(w, "\n%s of layers are not kept a second time as blobs\n", units.HumanSize(float64(u.Spared)))
	}
	return nil
}

// DiskRow is one kind of what lies in the data root.
type DiskRow struct {
	format.Row
	p spec.DiskPart
}

// What it is.
func (r *DiskRow) What() string { return r.p.What }

// Count is how many there are.
func (r *DiskRow) Count() string {
	if r.p.Count == 0 {
		return ""
	}
	return fmt.Sprint(r.p.Count)
}

// Size is what they take.
func (r *DiskRow) Size() string { return units.HumanSize(float64(r.p.Bytes)) }

// Where they lie, below the data root.
func (r *DiskRow) Where() string {
	if r.p.Where == "" {
		return ""
	}
	return path.Clean(r.p.Where)
}
