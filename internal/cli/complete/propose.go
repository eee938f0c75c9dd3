package complete

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
)

// proposal is what may stand for the word being typed: words ("name" or "name\tdescription"), files of this machine
// too, and whether the words are beginnings that something else follows ("container:").
type proposal struct {
	words      []string
	files      bool
	unfinished bool
}

// only keeps the words that begin with what was typed.
func (p proposal) only(typed string) proposal {
	var kept []string
	for _, w := range p.words {
		if strings.HasPrefix(w, typed) {
			kept = append(kept, w)
		}
	}
	p.words = kept
	return p
}

// line is a command line as far as it was typed.
type line struct {
	cmd   *app.Command
	root  bool           // no command yet
	flags *pflag.FlagSet // those of cmd, or the global ones
	open  *pflag.Flag    // the flag whose value is being typed
	given []string       // arguments before the word being typed
	over  bool           // no flags from here on
}

// propose reads the words before the last one, and lists what may stand for the last.
func propose(ctx context.Context, a *app.App, root *app.Command, args []string) proposal {
	if len(args) == 0 {
		args = []string{""}
	}
	last := args[len(args)-1]
	l, global := read(a, root, args[:len(args)-1])
	// Proposals come from the engine that the line is about. A line that cannot be parsed is about the usual one.
	fresh := pflag.NewFlagSet("", pflag.ContinueOnError)
	fresh.SetOutput(io.Discard)
	a.GlobalFlags(fresh)
	if fresh.Parse(global) == nil {
		_ = a.Settle(fresh)
	}
	switch name, value, inline := strings.Cut(last, "="); {
	case l.open != nil:
		return flagValues(ctx, a, l.cmd, l.open.Name, last).only(last)
	case !l.over && inline && strings.HasPrefix(name, "--"):
		f := l.flags.Lookup(name[2:])
		if f == nil {
			return proposal{}
		}
		p := flagValues(ctx, a, l.cmd, f.Name, value).only(value)
		for i, w := range p.words {
			p.words[i] = name + "=" + w
		}
		return p
	case !l.over && strings.HasPrefix(last, "-"):
		return proposal{words: flagWords(l.flags)}.only(last)
	case l.cmd.Sub != nil:
		var words []string
		for _, s := range l.cmd.Sub() {
			if !s.Hidden {
				words = append(words, s.Name+"\t"+s.Short)
			}
		}
		return proposal{words: words}.only(last)
	}
	return objects(ctx, a, l.cmd, l.given, last)
}

// read follows the words to the command they name; global is the flags in front of it.
func read(a *app.App, root *app.Command, words []string) (l line, global []string) {
	l = line{cmd: root, root: true, flags: flagsOf(a, root, true)}
	for i, w := range words {
		if l.root {
			global = words[:i]
		}
		switch {
		case l.open != nil:
			l.open = nil
		case !l.over && w == "--":
			l.over = true
		case !l.over && len(w) > 1 && w[0] == '-':
			l.open = takesNext(l.flags, w)
		case l.cmd.Sub != nil:
			if sub := l.cmd.Find(w); sub != nil {
				l.cmd, l.root, l.flags, l.given = sub, false, flagsOf(a, sub, false), nil
				continue
			}
			fallthrough
		default:
			l.given = append(l.given, w)
			l.over = l.over || l.cmd.StopFlags
		}
	}
	if l.root {
		global = words
	}
	return l, global
}

func flagsOf(a *app.App, c *app.Command, global bool) *pflag.FlagSet {
	f, _ := c.Flags(a)
	if global {
		a.GlobalFlags(f)
	}
	return f
}

// takesNext gives the flag of a word whose value is the next word, if there is one: --name, -n, -it's last.
func takesNext(f *pflag.FlagSet, w string) *pflag.Flag {
	if name, long := strings.CutPrefix(w, "--"); long {
		if fl := f.Lookup(name); fl != nil && fl.NoOptDefVal == "" {
			return fl
		}
		return nil
	}
	for i := 1; i < len(w); i++ {
		fl := f.ShorthandLookup(w[i : i+1])
		if fl == nil {
			return nil
		}
		if fl.NoOptDefVal == "" {
			if i == len(w)-1 {
				return fl
			}
			return nil
		}
	}
	return nil
}

func flagWords(f *pflag.FlagSet) (words []string) {
	f.VisitAll(func(fl *pflag.Flag) {
		if !fl.Hidden && fl.Deprecated == "" {
			usage, _, _ := strings.Cut(fl.Usage, "\n")
			words = append(words, "--"+fl.Name+"\t"+usage)
		}
	})
	return words
}
