package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/version"
)

// VersionLine is what --version prints.
func (a *App) VersionLine() string {
	title := "Gantry"
	if a.IsDocker() {
		title = "Docker"
	}
	return fmt.Sprintf("%s version %s, build %s", title, version.Version, version.Commit)
}

// Hooks are what the frame leaves to its caller.
type Hooks struct {
	// Plugin runs the external command of that name; found is false when there is none.
	Plugin func(ctx context.Context, name string, args []string) (found bool, err error)
	// Plugins lists external commands for the help.
	Plugins func() []*Command
}

// Run carries out one command line, without the program's name.
func (a *App) Run(ctx context.Context, root *Command, args []string, h Hooks) error {
	a.Root = root
	global := pflag.NewFlagSet(a.Name, pflag.ContinueOnError)
	global.Usage = func() {}
	global.SetOutput(a.Err)
	global.SetInterspersed(false)
	a.GlobalFlags(global)
	help := global.BoolP("help", "h", false, "Print usage")
	global.Lookup("help").Hidden = true
	_ = global.MarkShorthandDeprecated("help", "use --help")
	if err := global.Parse(args); err != nil {
		return &Exit{Code: 125, Err: fmt.Errorf("%w\n\nUsage:  %s [OPTIONS] COMMAND [ARG...]\n\nRun '%s --help' for more information", err, a.Name, a.Name)}
	}
	if a.Globals.Version {
		fmt.Fprintln(a.Out, a.VersionLine())
		return nil
	}
	if err := a.Settle(global); err != nil {
		return err
	}
	rest := global.Args()
	if *help && len(rest) == 0 || len(rest) == 1 && rest[0] == "help" {
		a.RootHelp(a.Out, root, global, h.Plugins())
		return nil
	}
	if len(rest) == 0 {
		a.RootHelp(a.Err, root, global, h.Plugins())
		return nil
	}
	if rest[0] == "help" {
		rest = append(append([]string(nil), rest[1:]...), "--help")
	} else if *help {
		rest = append([]string{rest[0], "--help"}, rest[1:]...)
	}
	cmd := root.Find(rest[0])
	if cmd == nil {
		if found, err := h.Plugin(ctx, rest[0], rest[1:]); found {
			return err
		}
		return fmt.Errorf("%s: unknown command: %s %s\n\nRun '%s --help' for more information", a.Name, a.Name, rest[0], a.Name)
	}
	return a.dispatch(ctx, cmd, rest[1:])
}

// Finish is the end of a run: it puts the terminal back, says what went wrong, and gives the exit status.
func (a *App) Finish(err error) int {
	a.In.Restore()
	a.Out.Restore()
	if err == nil || errors.Is(err, context.Canceled) {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(a.Err, text)
	}
	return ExitCode(err)
}

func (a *App) dispatch(ctx context.Context, c *Command, args []string) error {
	for c.Sub != nil && len(args) > 0 && len(args[0]) > 0 && args[0][0] != '-' {
		sub := c.Find(args[0])
		if sub == nil {
			return NoArgs(a, c, args)
		}
		c, args = sub, args[1:]
	}
	f, run := c.Flags(a)
	if c.RawArgs {
		return run(ctx, args)
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			c.Help(a, a.Out)
			return nil
		}
		return &Exit{Code: 125, Err: fmt.Errorf("%w\n\nUsage:  %s\n\nRun '%s --help' for more information", err, c.UseLine(a), c.Path(a))}
	}
	if help, _ := f.GetBool("help"); help {
		c.Help(a, a.Out)
		return nil
	}
	if run == nil {
		if f.NArg() > 0 {
			return NoArgs(a, c, f.Args())
		}
		c.Help(a, a.Err)
		return nil
	}
	if c.Check != nil {
		if err := c.Check(a, c, f.Args()); err != nil {
			return err
		}
	}
	return run(ctx, f.Args())
}
