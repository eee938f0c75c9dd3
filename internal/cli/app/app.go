package app

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/config"
	"github.com/gantry-engine/gantry/internal/cli/engine"
)

// App is one run of the program.
type App struct {
	Name string // what the program is called: gantry, or docker behind a link of that name
	In   *Input
	Out  *Output
	Err  io.Writer
	Env  func(string) string

	Globals Globals
	Home    config.Home
	Engine  *engine.Engine
	Root    *Command // the whole tree, for help and completion

	// HandOver gives the command line, as it was typed, to the front end of that name, an executable of its own. It comes
	// back only with an error, or with the other's exit status.
	HandOver func(front string) error
}

// Globals are the flags in front of the command that are about neither the client's directory nor the engine.
type Globals struct {
	LogLevel       string
	Debug, Version bool
}

// New makes the frame for a program name and the process's own streams and environment, which may be replaced until it runs.
func New(name string) *App {
	a := &App{Name: name, In: NewInput(os.Stdin), Out: NewOutput(os.Stdout), Err: os.Stderr, Env: os.Getenv}
	a.HandOver = func(front string) error { return fmt.Errorf("this program does not reach %s-%s", name, front) }
	a.Home.Warn = func(err error) { fmt.Fprintln(a.Err, "WARNING: Error", err) }
	a.Engine = engine.New(name, func(key string) string { return a.Env(key) }, &a.Home)
	return a
}

// IsDocker says whether we are to behave under docker's name.
func (a *App) IsDocker() bool { return a.Name == "docker" }

// GlobalFlags registers the flags in front of the command.
func (a *App) GlobalFlags(f *pflag.FlagSet) {
	g := &a.Globals
	f.StringVar(&a.Home.Dir, "config", config.Dir(), "Directory with the client's configuration")
	f.BoolVarP(&g.Debug, "debug", "D", a.Env("DEBUG") != "", "Turn debug output on")
	f.StringVarP(&g.LogLevel, "log-level", "l", "info", `How much to log ("debug", "info", "warn", "error", "fatal")`)
	f.BoolVarP(&g.Version, "version", "v", false, "Print the version and quit")
	a.Engine.GlobalFlags(f) // after --config: certificates are looked for in the client's directory
}

// Settle is called when the global flags are parsed.
func (a *App) Settle(f *pflag.FlagSet) error {
	if f.Changed("config") {
		if err := os.Setenv("DOCKER_CONFIG", a.Home.Dir); err != nil { // plugins and credential helpers look there too
			return err
		}
	}
	err := a.Engine.Settle(f)
	switch strings.ToLower(a.Globals.LogLevel) {
	case "panic", "fatal", "error", "warn", "warning", "info", "debug", "trace":
		return err
	}
	return fmt.Errorf("Unable to parse logging level: %s", a.Globals.LogLevel) // docker's text
}
