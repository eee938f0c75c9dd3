// Package cli is the command line: the tree of commands and how a run of the program begins and ends.
//
// A start costs what the command asked for costs: groups are lists of values, flags are registered for the one command that
// runs, and configuration and connection are opened when something needs them.
package cli

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/complete"
	"github.com/gantry-engine/gantry/internal/cli/container"
	clicontext "github.com/gantry-engine/gantry/internal/cli/context"
	"github.com/gantry-engine/gantry/internal/cli/image"
	"github.com/gantry-engine/gantry/internal/cli/manifest"
	"github.com/gantry-engine/gantry/internal/cli/network"
	"github.com/gantry-engine/gantry/internal/cli/registry"
	"github.com/gantry-engine/gantry/internal/cli/system"
	"github.com/gantry-engine/gantry/internal/cli/volume"
)

// Root is the tree of commands.
func Root() *app.Command {
	return &app.Command{Args: "[OPTIONS] COMMAND", Short: "An engine for containers: builds, ships and runs them", Sub: func() []*app.Command {
		var all []*app.Command
		for _, list := range [][]*app.Command{container.Top(), image.Top(), system.Top(), registry.Top(), {container.Group(), image.Group(), volume.Group(), network.Group(),
			system.Group(), clicontext.Group(), registry.Builder(), registry.Group(), manifest.Group(nil), complete.Group(Root)}, complete.Hidden(Root)} {
			all = append(all, list...)
		}
		return all
	}}
}

// Main runs a command line, argv[0] included, and gives the exit status.
func Main(argv []string) int {
	name := strings.TrimSuffix(filepath.Base(argv[0]), ".exe")
	if name != "docker" {
		name = "gantry"
	}
	a := app.New(name)
	root := Root()
	hooks := app.Hooks{
		Plugin: func(ctx context.Context, plugin string, _ []string) (bool, error) {
			return runPlugin(ctx, a, argv[1:], plugin)
		},
		Plugins: func() []*app.Command { return pluginCommands(a, root) },
	}
	a.HandOver = func(front string) error { return handOver(a, argv[1:], front) }
	return a.Finish(a.Run(context.Background(), root, argv[1:], hooks))
}
