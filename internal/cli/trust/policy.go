package trust

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/trust/program"
)

func look(ctx context.Context, file, image string) (program.Policy, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return program.Policy{}, err
	}
	return helper().Look(ctx, program.Look{File: abs, Name: image})
}

func buildCheck(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(ctx context.Context, args []string) error {
		p, err := look(ctx, args[0], "")
		if err != nil {
			return err
		}
		for _, n := range p.Notes {
			fmt.Fprintln(a.Err, "NOTE:", n)
		}
		fmt.Fprintf(a.Out, "%s: %d rules, no mistakes\n", args[0], len(p.Rules))
		return nil
	}
}

func buildShow(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var asJSON bool
	f.BoolVar(&asJSON, "json", false, "Print JSON")
	return func(ctx context.Context, args []string) error {
		image := ""
		if len(args) > 1 {
			image = args[1]
		}
		p, err := look(ctx, args[0], image)
		if err != nil {
			return err
		}
		if asJSON {
			b, err := json.MarshalIndent(p.Rules, "", "  ")
			if err == nil {
				fmt.Fprintln(a.Out, string(b))
			}
			return err
		}
		t := tabwriter.NewWriter(a.Out, 0, 1, 3, ' ', 0)
		fmt.Fprintln(t, "SCOPE\tRULE\tNAME THAT WAS SIGNED")
		for _, r := range p.Rules {
			fmt.Fprintf(t, "%s\t%s\t%s\n", r.Scope, r.Demand, r.Identity)
		}
		return t.Flush()
	}
}
