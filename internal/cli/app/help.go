package app

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Flags is the flag set of a command, with --help.
func (c *Command) Flags(a *App) (*pflag.FlagSet, RunFunc) {
	f := pflag.NewFlagSet(c.Name, pflag.ContinueOnError)
	f.Usage = func() {}
	f.SetOutput(a.Err)
	f.SetInterspersed(!c.StopFlags)
	f.SortFlags = true
	var run RunFunc
	if c.Build != nil {
		run = c.Build(a, f)
	}
	if f.Lookup("help") == nil {
		short := "h"
		if f.ShorthandLookup("h") != nil {
			short = ""
		}
		f.BoolP("help", short, false, "Print usage")
		if short != "" {
			_ = f.MarkShorthandDeprecated("help", "use --help")
		}
		f.Lookup("help").Hidden = true
	}
	return f, run
}

func (a *App) width() int {
	if _, w := a.Out.Size(); w > 0 {
		return int(w)
	}
	return 80
}

// Help prints a command's help.
func (c *Command) Help(a *App, w io.Writer) {
	fmt.Fprintf(w, "Usage:  %s\n", c.UseLine(a))
	if c.Usage2 != "" {
		fmt.Fprintf(w, "\t%s %s\n", c.Path(a), c.Usage2)
	}
	text := c.Long
	if text == "" {
		text = c.Short
	}
	fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(text))
	if len(c.AKA) > 1 {
		fmt.Fprintf(w, "\nAliases:\n  %s %s\n", a.Name, strings.Join(c.AKA, ", "+a.Name+" "))
	}
	if c.Sub != nil {
		subs := c.Sub()
		slices.SortStableFunc(subs, func(x, y *Command) int { return strings.Compare(x.Name, y.Name) })
		writeCommands(w, "Commands", subs)
		fmt.Fprintf(w, "\nRun '%s COMMAND --help' for more information on a command.\n", c.Path(a))
		return
	}
	f, _ := c.Flags(a)
	if f.HasAvailableFlags() {
		fmt.Fprintf(w, "\nOptions:\n%s\n", strings.TrimRight(f.FlagUsagesWrapped(a.width()-1), "\n"))
	}
}

func writeCommands(w io.Writer, title string, list []*Command) {
	fmt.Fprintf(w, "\n%s:\n", title)
	width := 11
	for _, s := range list {
		if !s.Hidden {
			width = max(width, len(s.Name))
		}
	}
	for _, s := range list {
		if !s.Hidden {
			fmt.Fprintf(w, "  %-*s %s\n", width, s.Name, s.Short)
		}
	}
}

// RootHelp prints the help of the program, extra being the commands of plugins.
func (a *App) RootHelp(w io.Writer, root *Command, global *pflag.FlagSet, extra []*Command) {
	fmt.Fprintf(w, "Usage:  %s [OPTIONS] COMMAND\n\n%s\n", a.Name, root.Short)
	byGroup := map[string][]*Command{}
	for _, c := range root.Sub() {
		if !c.Hidden {
			byGroup[c.Group] = append(byGroup[c.Group], c)
		}
	}
	byGroup["management"] = append(byGroup["management"], extra...)
	for _, g := range []struct{ key, title string }{{"common", "Common Commands"}, {"management", "Management Commands"}, {"swarm", "Swarm Commands"}, {"", "Commands"}} {
		list := byGroup[g.key]
		if len(list) == 0 {
			continue
		}
		if g.key != "common" {
			slices.SortStableFunc(list, func(x, y *Command) int { return strings.Compare(x.Name, y.Name) })
		}
		writeCommands(w, g.title, list)
	}
	fmt.Fprintf(w, "\nGlobal Options:\n%s\n", strings.TrimRight(global.FlagUsagesWrapped(a.width()-1), "\n"))
	fmt.Fprintf(w, "\nRun '%s COMMAND --help' for more information on a command.\n", a.Name)
}
