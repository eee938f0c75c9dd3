//go:build linux

// Command gantry-registry is the private registry. `gantry registry serve`, `gc` and `user` execute it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/registryserver/flags"
	"github.com/gantry-engine/gantry/internal/registryserver/server"
	"github.com/gantry-engine/gantry/internal/registryserver/settings"
	"github.com/gantry-engine/gantry/internal/version"
)

// verbs are what the executable does. Each gets its words.
var verbs = map[string]func(args []string) error{"serve": serve, "gc": collect, "user": user}

const usage = `Usage:  gantry-registry serve|gc|user [OPTIONS]

The private registry of Gantry. 'gantry registry VERB --help' says more.
`

func main() {
	if len(os.Args) > 1 && (os.Args[1] == "--version" || os.Args[1] == "-v") {
		fmt.Printf("gantry-registry version %s, build %s\n", version.Version, version.Commit)
		return
	}
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err := verbs[os.Args[1]](os.Args[2:]); err != nil {
		if !errors.Is(err, pflag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "gantry-registry:", err)
			os.Exit(1)
		}
	}
}

// flagSet makes the flags of a verb.
func flagSet(verb string) *pflag.FlagSet {
	f := pflag.NewFlagSet("gantry-registry "+verb, pflag.ContinueOnError)
	f.SortFlags = true
	return f
}

func serve(args []string) error {
	f := flagSet("serve")
	var o flags.Serve
	o.Register(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("serve takes no arguments: %q", f.Args())
	}
	cfg, err := settings.Load(&o, f.Changed)
	if err != nil {
		return err
	}
	log := newLog(cfg.Log, os.Stderr)
	s, err := server.Open(cfg, server.Ways{Registry: dial(log), Engine: toEngine}, log)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		for range hup {
			s.Reload()
		}
	}()
	return s.Run(ctx)
}

func newLog(l settings.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.Level)) // checked
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
