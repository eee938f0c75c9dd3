package system

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/cli/opts"
	"github.com/gantry-engine/gantry/internal/cli/timestamp"
)

func buildEvents(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var since, until, tmpl string
	var filter opts.Filter
	f.VarP(&filter, "filter", "f", "Only what matches")
	f.StringVar(&tmpl, "format", "", app.InspectFormatHelp)
	f.StringVar(&since, "since", "", "Begin with events since this time")
	f.StringVar(&until, "until", "", "End at this time")
	return func(ctx context.Context, _ []string) error {
		var t *template.Template
		if tmpl != "" {
			var err error
			if t, err = format.Parse(tmpl); err != nil {
				return &app.Exit{Code: 64, Err: fmt.Errorf("error parsing format: %w", err)}
			}
		}
		q := filter.Query(nil)
		for k, v := range map[string]string{"since": since, "until": until} {
			if v == "" {
				continue
			}
			ts, err := timestamp.Parse(v)
			if err != nil {
				return err
			}
			q.Set(k, ts)
		}
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		body, err := c.Stream(ctx, "/events", q)
		if err != nil {
			return err
		}
		defer body.Close()
		dec := json.NewDecoder(body)
		for {
			var m events.Message
			if err := dec.Decode(&m); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if t == nil {
				printEvent(a.Out, m)
				continue
			}
			if err := t.Execute(a.Out, m); err != nil {
				return fmt.Errorf("template parsing error: %w", err)
			}
			fmt.Fprintln(a.Out)
		}
	}
}

// nanoPadded is RFC 3339 with all nine digits of the fraction.
const nanoPadded = "2006-01-02T15:04:05.000000000Z07:00"

func printEvent(w io.Writer, m events.Message) {
	t := time.Unix(0, m.TimeNano)
	if m.TimeNano == 0 {
		t = time.Unix(m.Time, 0)
	}
	line := fmt.Sprintf("%s %s %s %s", t.Format(nanoPadded), m.Type, m.Action, m.Actor.ID)
	if len(m.Actor.Attributes) > 0 {
		var attrs []string
		for k, v := range m.Actor.Attributes {
			attrs = append(attrs, k+"="+v)
		}
		slices.Sort(attrs)
		line += " (" + strings.Join(attrs, ", ") + ")"
	}
	fmt.Fprintln(w, line)
}
