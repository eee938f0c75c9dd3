// Package app is the frame every command of the command line is hung into: what a command is, the
// streams, usage texts and exit statuses, with the client's directory and the engine at hand.
//
// Commands are values in tables; flags of a command are only built when that command is run.
package app

import (
	"context"
	"strings"

	"github.com/spf13/pflag"
)

// RunFunc carries out a command with the arguments that are left after its flags.
type RunFunc func(ctx context.Context, args []string) error

// Command is one verb, or a group of verbs.
type Command struct {
	Name      string   // the word on the command line
	Aliases   []string // further words for it within its group
	Args      string   // the usage line after the name: "[OPTIONS] IMAGE [COMMAND] [ARG...]"; empty: no flags, no arguments
	Usage2    string   // a second usage line, for commands that have two forms
	Short     string
	Long      string
	AKA       []string // all paths that reach it, for the help: "container run", "run"
	Group     string   // headline in the top level's help: "common", "management", "swarm" or empty
	Hidden    bool
	Check     ArgCheck
	StopFlags bool // flags end at the first argument (run, exec, top)
	RawArgs   bool // no flags: all words are arguments
	// Build registers the flags and returns what runs.
	Build func(a *App, f *pflag.FlagSet) RunFunc
	// Sub lists a group's verbs.
	Sub func() []*Command

	parent *Command
}

// Path is the command with its parents, program name first.
func (c *Command) Path(a *App) string {
	var words []string
	for p := c; p != nil; p = p.parent {
		words = append([]string{p.Name}, words...)
	}
	if len(words) > 0 && c.root() {
		words[0] = a.Name
	} else {
		words = append([]string{a.Name}, words...)
	}
	return strings.Join(words, " ")
}

func (c *Command) root() bool {
	p := c
	for p.parent != nil {
		p = p.parent
	}
	return p.Name == ""
}

// UseLine is the usage line as shown behind "Usage:".
func (c *Command) UseLine(a *App) string {
	if c.Args == "" {
		return c.Path(a)
	}
	return c.Path(a) + " " + c.Args
}

// Find looks a word up among the verbs of a group, and ties it to its parent.
func (c *Command) Find(word string) *Command {
	if c.Sub == nil {
		return nil
	}
	for _, s := range c.Sub() {
		if s.Name == word {
			s.parent = c
			return s
		}
		for _, al := range s.Aliases {
			if al == word {
				s.parent = c
				return s
			}
		}
	}
	return nil
}

// Parent is the group a command was reached through; nil for the tree itself.
func (c *Command) Parent() *Command { return c.parent }
