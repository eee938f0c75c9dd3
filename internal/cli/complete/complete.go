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

// Hidden is the command the scripts call: __complete with the words typed so far, the last being completed.
func Hidden(root func() *app.Command) *app.Command {
	return &app.Command{Name: "__complete", Aliases: []string{"__completeNoDesc"}, Args: "[ARG...]", Short: "Propose words", Hidden: true, StopFlags: true, Build: func(a *app.App, f *pflag.FlagSet) app.RunFunc {
		f.ParseErrorsAllowlist.UnknownFlags = true
		return func(ctx context.Context, args []string) error {
			words, files := propose(ctx, a, root(), args)
			for _, w := range words {
				fmt.Fprintln(a.Out, w)
			}
			directive := cobra.ShellCompDirectiveNoFileComp
			if files {
				directive = cobra.ShellCompDirectiveDefault
			}
			fmt.Fprintf(a.Out, ":%d\n", directive)
			return nil
		}
	}}
}

// propose finds the command typed so far and lists what may follow.
func propose(ctx context.Context, a *app.App, root *app.Command, args []string) (words []string, files bool) {
	if len(args) == 0 {
		args = []string{""}
	}
	last := args[len(args)-1]
	cmd := root
	var rest []string
	for _, w := range args[:len(args)-1] {
		if !strings.HasPrefix(w, "-") && cmd.Sub != nil {
			if sub := cmd.Find(w); sub != nil {
				cmd, rest = sub, nil
				continue
			}
		}
		rest = append(rest, w)
	}
	if strings.HasPrefix(last, "-") {
		return flagWords(a, cmd, cmd == root, last), false
	}
	if cmd.Sub != nil {
		for _, s := range cmd.Sub() {
			if !s.Hidden && strings.HasPrefix(s.Name, last) {
				words = append(words, s.Name+"\t"+s.Short)
			}
		}
		return words, false
	}
	return objects(ctx, a, cmd, rest, last)
}

func flagWords(a *app.App, cmd *app.Command, global bool, last string) (words []string) {
	f, _ := cmd.Flags(a)
	if global {
		a.GlobalFlags(f)
	}
	f.VisitAll(func(fl *pflag.Flag) {
		if name := "--" + fl.Name; !fl.Hidden && strings.HasPrefix(name, last) {
			usage, _, _ := strings.Cut(fl.Usage, "\n")
			words = append(words, name+"\t"+usage)
		}
	})
	return words
}
