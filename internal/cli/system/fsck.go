package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/spec"
)

func buildFsck(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var repair, quiet bool
	var form string
	f.BoolVar(&repair, "repair", false, "Repair what can be: from what is here, or by fetching again")
	f.BoolVarP(&quiet, "quiet", "q", false, "Only tell what is wrong")
	f.StringVar(&form, "format", "", "\"json\" for one JSON object per finding")
	return func(ctx context.Context, _ []string) error {
		if form != "" && form != "json" {
			return fmt.Errorf("the format %q is not known: \"json\" is", form)
		}
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		q := url.Values{}
		if repair {
			q.Set("repair", "1")
		}
		r, err := c.Do(ctx, api.Request{Method: http.MethodPost, Path: "/system/fsck", Query: q})
		if err != nil {
			return err
		}
		defer r.Body.Close()
		v := &fsckView{a: a, json: form == "json", progress: !quiet && form == "" && a.Out.IsTerminal()}
		sum, err := v.show(r.Body)
		if err != nil {
			return err
		}
		if !quiet && form == "" {
			v.sum(sum)
		}
		if sum.Found > sum.Repaired {
			return &app.Exit{Code: 1}
		}
		return nil
	}
}

// fsckView shows a check.
type fsckView struct {
	a        *app.App
	json     bool
	progress bool
	told     string // the line of progress that stands on the terminal
}

// show shows the messages until the last.
func (v *fsckView) show(r io.Reader) (spec.CheckSum, error) {
	dec := json.NewDecoder(r)
	for {
		var s spec.CheckStep
		if err := dec.Decode(&s); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the engine ended the check before it was done")
			}
			return spec.CheckSum{}, err
		}
		v.line("")
		switch {
		case s.Error != "":
			return spec.CheckSum{}, errors.New(s.Error)
		case s.Sum != nil:
			return *s.Sum, nil
		case s.Progress != nil:
			v.line(fmt.Sprintf("checking %s: %d of %d", s.Progress.Doing, s.Progress.Done+1, s.Progress.Of))
		case s.Finding != nil:
			if err := v.finding(*s.Finding); err != nil {
				return spec.CheckSum{}, err
			}
		}
	}
}

// line puts a line of progress on the terminal, or takes it away.
func (v *fsckView) line(text string) {
	if !v.progress {
		return
	}
	if v.told != "" {
		fmt.Fprint(v.a.Out, "\r"+strings.Repeat(" ", len(v.told))+"\r")
	}
	fmt.Fprint(v.a.Out, text)
	v.told = text
}

func (v *fsckView) finding(f spec.Finding) error {
	if v.json {
		return json.NewEncoder(v.a.Out).Encode(f)
	}
	id := f.ID
	if strings.HasPrefix(id, "sha256:") || len(id) == 64 {
		id = format.ShortID(id)
	}
	fmt.Fprintf(v.a.Out, "%s %s: %s", f.Kind, id, f.Problem)
	if len(f.Of) > 0 {
		fmt.Fprintf(v.a.Out, " (of %s)", strings.Join(f.Of, ", "))
	}
	if f.Detail != "" {
		fmt.Fprintf(v.a.Out, ": %s", f.Detail)
	}
	switch {
	case f.Repaired:
		fmt.Fprint(v.a.Out, "\n  repaired\n")
	case f.Advice != "":
		fmt.Fprintf(v.a.Out, "\n  %s\n", f.Advice)
	default:
		fmt.Fprintln(v.a.Out)
	}
	return nil
}

func (v *fsckView) sum(s spec.CheckSum) {
	fmt.Fprintf(v.a.Out, "Checked %d blobs and %d layers of %d images", s.Blobs, s.Layers, s.Images)
	if s.Unverified > 0 {
		fmt.Fprintf(v.a.Out, " (%d layers have nothing to be compared with)", s.Unverified)
	}
	switch {
	case s.Found == 0:
		fmt.Fprintln(v.a.Out, ": all is well")
	case s.Repaired > 0:
		fmt.Fprintf(v.a.Out, ": %d problems, %d repaired\n", s.Found, s.Repaired)
	default:
		fmt.Fprintf(v.a.Out, ": %d problems\n", s.Found)
	}
}
