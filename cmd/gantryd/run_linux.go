package main

import (
	"errors"
	"fmt"
	"github.com/gantry-engine/gantry/internal/kit/calm"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/config"
	"github.com/gantry-engine/gantry/internal/version"
)

// run reads the configuration and either answers at once (--help, --version,
// --validate) or is the daemon until it is told to stop. It returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	calm.Monitor()
	name := filepath.Base(args[0])
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.SortFlags = true
	loader := config.NewLoader(args[0], flags)
	help := flags.Bool("help", false, "Print usage")
	showVersion := flags.BoolP("version", "v", false, "Print version information and quit")

	if err := flags.Parse(args[1:]); err != nil {
		fmt.Fprintf(stderr, "%s: %v\nRun '%s --help' for more information\n", name, err, name)
		return 1
	}
	switch {
	case *help:
		fmt.Fprintf(stdout, "Usage:  %s [OPTIONS]\n\nA self-sufficient runtime for containers.\n\nOptions:\n%s", name, flags.FlagUsages())
		return 0
	case *showVersion:
		fmt.Fprintf(stdout, "Gantry version %s, build %s\n", version.Version, version.Commit)
		return 0
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "%s: %q is not a flag: the daemon takes no arguments\nRun '%s --help' for more information\n", name, flags.Arg(0), name)
		return 1
	}
	cfg, err := loader.Load(os.Getenv)
	if err != nil {
		fmt.Fprintln(stderr, message(err))
		return 1
	}
	if cfg.Validate {
		fmt.Fprintln(stderr, "configuration OK")
		return 0
	}
	if os.Geteuid() != 0 {
		fmt.Fprintf(stderr, "%s needs to be started as root\n", name)
		return 1
	}
	var level slog.LevelVar
	log := newLog(cfg, &level, stderr)
	slog.SetDefault(log)
	d := &daemon{cfg: cfg, args: args, log: log, level: &level}
	if err := d.run(); err != nil {
		if !errors.Is(err, errForced) {
			fmt.Fprintf(stderr, "failed to start daemon: %s\n", message(err))
		}
		return 1
	}
	return 0
}

// newLog makes the structured log. Its level can be changed while running.
func newLog(cfg *config.Config, level *slog.LevelVar, w io.Writer) *slog.Logger {
	level.Set(logLevel(cfg.LogLevel))
	o := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func logLevel(name string) slog.Level {
	switch name {
	case "debug", "trace":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error", "fatal", "panic":
		return slog.LevelError
	}
	return slog.LevelInfo
}
