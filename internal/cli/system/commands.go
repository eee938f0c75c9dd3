package system

import (
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/importdocker"
)

// Group is `system` with its verbs.
func Group() *app.Command {
	return &app.Command{Name: "system", Args: "COMMAND", Short: "Manage the engine", Group: "management", Sub: func() []*app.Command {
		return []*app.Command{
			{Name: "df", Args: "[OPTIONS]", Short: "Show what takes disk space", Check: app.NoArgs, Build: buildDf},
			{Name: "dial-stdio", Short: "Join STDIN and STDOUT with the engine's socket", Hidden: true, Check: app.NoArgs, Build: buildDialStdio},
			both("events", "", "Show what happens in the engine, as it happens", buildEvents), both("info", "", "Show what the engine is and has", buildInfo),
			{Name: "fsck", Args: "[OPTIONS]", Short: "Check everything on the engine's disk, and repair it", Check: app.NoArgs, Build: buildFsck},
			importdocker.Command(importDocker),
			{Name: "prune", Args: "[OPTIONS]", Short: "Remove unused data", Check: app.NoArgs, Build: buildPrune},
		}
	}}
}

// Top is the verbs that need no group in front.
func Top() []*app.Command {
	return []*app.Command{both("events", "", "Show what happens in the engine, as it happens", buildEvents), both("info", "common", "Show what the engine is and has", buildInfo),
		{Name: "inspect", Args: "[OPTIONS] NAME|ID [NAME|ID...]", Short: "Show everything about objects of any type", Check: app.MinArgs(1), Build: buildInspect},
		{Name: "version", Args: "[OPTIONS]", Short: "Show the versions of client and engine", Group: "common", Check: app.NoArgs, Build: buildVersion}}
}

func both(name, group, short string, build func(*app.App, *pflag.FlagSet) app.RunFunc) *app.Command {
	return &app.Command{Name: name, Args: "[OPTIONS]", Short: short, Group: group, AKA: []string{"system " + name, name}, Check: app.NoArgs, Build: build}
}
