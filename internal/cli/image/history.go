package image

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
)

func buildHistory(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl, platform string
	var human, noTrunc, quiet bool
	f.StringVar(&tmpl, "format", "", app.FormatHelp)
	f.BoolVarP(&human, "human", "H", true, "Print sizes and dates in words")
	f.BoolVar(&noTrunc, "no-trunc", false, "Show everything in full")
	f.BoolVarP(&quiet, "quiet", "q", false, "Show IDs only")
	f.StringVar(&platform, "platform", "", "Show this platform of the image (os[/arch[/variant]])")
	return func(ctx context.Context, args []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		q := url.Values{}
		if platform != "" {
			if err := addPlatforms(q, "platform", []string{platform}); err != nil {
				return err
			}
		}
		var list []image.HistoryResponseItem
		if err := c.Get(ctx, "/images/"+escape(args[0])+"/history", q, &list); err != nil {
			return err
		}
		fm := tmpl
		switch {
		case fm == "" && quiet, fm == format.TableKey && quiet:
			fm = "{{.ID}}"
		case fm == "" || fm == format.TableKey:
			fm = "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
			if !human {
				fm = "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
			}
		}
		rows := make([]*HistoryRow, len(list))
		for i := range list {
			rows[i] = &HistoryRow{h: &list[i], trunc: !noTrunc, human: human}
		}
		head := map[string]string{"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT"}
		return format.Write(a.Out, format.Table{Format: fm, Header: head}, rows)
	}
}

// HistoryRow is one step of an image's making.
type HistoryRow struct {
	format.Row
	h            *image.HistoryResponseItem
	trunc, human bool
}

// ID is the image of that step, if it is there.
func (r *HistoryRow) ID() string {
	if r.trunc {
		return format.ShortID(r.h.ID)
	}
	return r.h.ID
}

// CreatedAt is the time of the step.
func (r *HistoryRow) CreatedAt() string {
	if time.Unix(r.h.Created, 0).IsZero() {
		return ""
	}
	return time.Unix(r.h.Created, 0).Format(time.RFC3339)
}

// CreatedSince says how long ago it was.
func (r *HistoryRow) CreatedSince() string {
	if !r.human {
		return r.CreatedAt()
	}
	return units.HumanDuration(time.Now().UTC().Sub(time.Unix(r.h.Created, 0))) + " ago"
}

// CreatedBy is the instruction.
func (r *HistoryRow) CreatedBy() string {
	s := strings.ReplaceAll(r.h.CreatedBy, "\t", " ")
	if r.trunc {
		return format.Ellipsis(s, 45)
	}
	return s
}

// Size is the layer's size.
func (r *HistoryRow) Size() string {
	if r.human {
		return units.HumanSizeWithPrecision(float64(r.h.Size), 3)
	}
	return strconv.FormatInt(r.h.Size, 10)
}

// Comment is the step's comment.
func (r *HistoryRow) Comment() string { return r.h.Comment }
