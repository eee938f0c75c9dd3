package app

import (
	"fmt"
)

// ArgCheck judges the arguments of a command.
type ArgCheck func(a *App, c *Command, args []string) error

func plural(n int) string {
	if n == 1 {
		return "argument"
	}
	return "arguments"
}

// NoArgs refuses arguments.
func NoArgs(a *App, c *Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if c.Sub != nil {
		return fmt.Errorf("%s: unknown command: %s %s\n\nUsage:  %s\n\nRun '%s --help' for more information", a.Name, c.Path(a), args[0], c.Path(a), c.Path(a))
	}
	return fmt.Errorf("%s: '%s' accepts no arguments\n\nUsage:  %s\n\nRun '%s --help' for more information", a.Name, c.Path(a), c.UseLine(a), c.Path(a))
}

// requires words a refusal; see is the verb docker uses in that case.
func requires(a *App, c *Command, what string, n int, see string) error {
	usage := c.UseLine(a)
	if c.Usage2 != "" {
		usage += "\n\t" + c.Path(a) + " " + c.Usage2
	}
	return fmt.Errorf("%s: '%s' requires %s %s\n\nUsage:  %s\n\n%s '%s --help' for more information", a.Name, c.Path(a), what, plural(n), usage, see, c.Path(a))
}

// MinArgs asks for at least n arguments.
func MinArgs(n int) ArgCheck {
	return func(a *App, c *Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return requires(a, c, fmt.Sprintf("at least %d", n), n, "See")
	}
}

// MaxArgs allows at most n arguments.
func MaxArgs(n int) ArgCheck {
	return func(a *App, c *Command, args []string) error {
		if len(args) <= n {
			return nil
		}
		return requires(a, c, fmt.Sprintf("at most %d", n), n, "Run")
	}
}

// RangeArgs asks for min to max arguments.
func RangeArgs(min, max int) ArgCheck {
	return func(a *App, c *Command, args []string) error {
		if len(args) >= min && len(args) <= max {
			return nil
		}
		return requires(a, c, fmt.Sprintf("at least %d and at most %d", min, max), max, "Run")
	}
}

// ExactArgs asks for n arguments.
func ExactArgs(n int) ArgCheck {
	return func(a *App, c *Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return requires(a, c, fmt.Sprint(n), n, "Run")
	}
}
