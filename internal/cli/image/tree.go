package image

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"

	"github.com/gantry-engine/gantry/internal/cli/format"
)

// printTree lists images with their platforms below.
func printTree(w io.Writer, list []image.Summary) error {
	t := tabwriter.NewWriter(w, 0, 1, 3, ' ', 0)
	fmt.Fprintln(t, "IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tEXTRA")
	for _, s := range list {
		names := strings.Join(s.RepoTags, ", ")
		if names == "" {
			names = "<untagged>"
		}
		var content int64
		for _, m := range s.Manifests {
			content += m.Size.Content
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", names, format.ShortID(s.ID), units.HumanSizeWithPrecision(float64(s.Size), 3), size(content), inUse(s.Containers > 0))
		for i, m := range s.Manifests {
			if m.ImageData == nil {
				continue
			}
			branch := "├─"
			if i == len(s.Manifests)-1 {
				branch = "└─"
			}
			p := m.ImageData.Platform.OS + "/" + m.ImageData.Platform.Architecture
			if m.ImageData.Platform.Variant != "" {
				p += "/" + m.ImageData.Platform.Variant
			}
			fmt.Fprintf(t, "%s %s\t%s\t%s\t%s\t%s\n", branch, p, format.ShortID(m.ID), size(m.Size.Total), size(m.Size.Content), inUse(len(m.ImageData.Containers) > 0))
		}
	}
	return t.Flush()
}

func size(n int64) string {
	if n == 0 {
		return ""
	}
	return units.HumanSizeWithPrecision(float64(n), 3)
}

func inUse(yes bool) string {
	if yes {
		return "U"
	}
	return ""
}
