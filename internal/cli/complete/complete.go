// Package complete makes shell completion work: the scripts for the shells, and the hidden command they ask for proposals.
package complete

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

// Group is `completion` with one verb per shell.
func Group(func() *app.Command) *app.Command {
	shell := func(name string, write func(*cobra.Command, *app.App, bool) error) *app.Command {
		return &app.Command{Name: name, Args: "[OPTIONS]", Short: "Print the completion script for " + name, Check: app.NoArgs, Build: func(a *app.App, f *pflag.FlagSet) app.RunFunc {
			plain := f.Bool("no-descriptions", false, "Propose words without descriptions")
			return func(context.Context, []string) error { return write(&cobra.Command{Use: a.Name}, a, !*plain) }
		}}
	}
	return &app.Command{Name: "completion", Args: "COMMAND", Short: "Print the completion script for a shell", Group: "management", Hidden: true, Sub: func() []*app.Command {
		return []*app.Command{
			shell("bash", func(c *cobra.Command, a *app.App, d bool) error { return c.GenBashCompletionV2(a.Out, d) }),
			shell("fish", func(c *cobra.Command, a *app.App, d bool) error { return c.GenFishCompletion(a.Out, d) }),
			shell("powershell", func(c *cobra.Command, a *app.App, d bool) error {
				if d {
					return c.GenPowerShellCompletionWithDesc(a.Out)
				}
				return c.GenPowerShellCompletion(a.Out)
			}),
			shell("zsh", func(c *cobra.Command, a *app.App, d bool) error {
				if d {
					return c.GenZshCompletion(a.Out)
				}
				return c.GenZshCompletionNoDesc(a.Out)
			}),
		}
	}}
}

// Hidden is the commands the scripts call, with the words typed so far, the last being completed.
func Hidden(root func() *app.Command) []*app.Command {
	verb := func(name string, descriptions bool) *app.Command {
		return &app.Command{Name: name, Args: "[ARG...]", Short: "Propose words", Hidden: true, RawArgs: true, Build: func(a *app.App, _ *pflag.FlagSet) app.RunFunc {
			return func(ctx context.Context, args []string) error {
				p := propose(ctx, a, root(), args)
				for _, w := range p.words {
					if !descriptions {
						w, _, _ = strings.Cut(w, "\t")
					}
					fmt.Fprintln(a.Out, w)
				}
				directive := cobra.ShellCompDirectiveNoFileComp
				switch {
				case p.files:
					directive = cobra.ShellCompDirectiveDefault
				case p.unfinished:
					directive |= cobra.ShellCompDirectiveNoSpace
				}
				fmt.Fprintf(a.Out, ":%d\n", directive)
				return nil
			}
		}}
	}
	return []*app.Command{verb("__complete", true), verb("__completeNoDesc", false)}
}
