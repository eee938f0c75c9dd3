// Package container has the verbs for containers: create and run bring them to life, life ends and changes them, files
// goes into them, show looks at them.
package container

import (
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/container/create"
	"github.com/gantry-engine/gantry/internal/cli/container/files"
	"github.com/gantry-engine/gantry/internal/cli/container/life"
	"github.com/gantry-engine/gantry/internal/cli/container/run"
	"github.com/gantry-engine/gantry/internal/cli/container/show"
)

// Group is `container` with its verbs.
func Group() *app.Command {
	return &app.Command{Name: "container", Args: "COMMAND", Short: "Manage containers", Group: "management", Sub: func() []*app.Command {
		subs := append(shared(), ls("ls"), &app.Command{Name: "inspect", Args: "[OPTIONS] CONTAINER [CONTAINER...]", Short: "Show everything about one or more containers", Check: app.MinArgs(1), Build: show.BuildInspect},
			&app.Command{Name: "prune", Args: "[OPTIONS]", Short: "Remove all stopped containers", Check: app.NoArgs, Build: life.BuildPrune})
		for _, s := range subs {
			if s.Name == "rm" {
				s.Aliases = []string{"remove"}
			}
			s.Group = ""
		}
		return subs
	}}
}

// Top is the verbs for containers that need no group in front.
func Top() []*app.Command { return append(shared(), ls("ps")) }

func ls(name string) *app.Command {
	c := &app.Command{Name: name, Args: "[OPTIONS]", Short: "List containers", AKA: []string{"container ls", "container list", "container ps", "ps"}, Check: app.NoArgs, Build: show.BuildPs, Group: "common"}
	if name == "ls" {
		c.Aliases = []string{"ps", "list"}
	}
	return c
}

const (
	some = "[OPTIONS] CONTAINER [CONTAINER...]"
	bare = "CONTAINER [CONTAINER...]"
)

// shared is the verbs that exist with and without the group.
func shared() []*app.Command {
	return []*app.Command{
		verb("attach", "[OPTIONS] CONTAINER", "Attach standard input, output and error to a running container", app.ExactArgs(1), run.BuildAttach),
		verb("commit", "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", "Make an image of a container's changes", app.RangeArgs(1, 2), files.BuildCommit),
		cp(),
		ahead(verb("create", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container", app.MinArgs(1), create.BuildCreate)),
		verb("diff", "CONTAINER", "Show what changed in a container's file system", app.ExactArgs(1), files.BuildDiff),
		common(ahead(verb("exec", "[OPTIONS] CONTAINER COMMAND [ARG...]", "Run a command in a running container", app.MinArgs(2), run.BuildExec))),
		verb("export", "[OPTIONS] CONTAINER", "Write a container's file system as a tar archive", app.ExactArgs(1), files.BuildExport),
		verb("kill", some, "Kill one or more running containers", app.MinArgs(1), life.BuildKill),
		verb("logs", "[OPTIONS] CONTAINER", "Show what a container printed", app.ExactArgs(1), show.BuildLogs),
		verb("pause", bare, "Freeze all processes of one or more containers", app.MinArgs(1), life.BuildPause),
		verb("port", "CONTAINER [PRIVATE_PORT[/PROTO]]", "List the published ports of a container, or where one is published", app.RangeArgs(1, 2), show.BuildPort),
		verb("rename", "CONTAINER NEW_NAME", "Rename a container", app.ExactArgs(2), life.BuildRename),
		verb("restart", some, "Restart one or more containers", app.MinArgs(1), life.BuildRestart),
		rm(),
		common(ahead(verb("run", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a container from an image and run it", app.MinArgs(1), run.BuildRun))),
		verb("start", some, "Start one or more stopped containers", app.MinArgs(1), run.BuildStart),
		verb("stats", "[OPTIONS] [CONTAINER...]", "Show what containers use, live", nil, show.BuildStats),
		verb("stop", some, "Stop one or more running containers", app.MinArgs(1), life.BuildStop),
		ahead(verb("top", "CONTAINER [ps OPTIONS]", "List the processes of a container", app.MinArgs(1), show.BuildTop)),
		verb("unpause", bare, "Let all processes of one or more containers go on", app.MinArgs(1), life.BuildUnpause),
		verb("update", some, "Change limits of one or more containers", app.MinArgs(1), life.BuildUpdate),
		verb("wait", bare, "Wait until containers stop, then print their exit codes", app.MinArgs(1), run.BuildWait),
	}
}

func verb(name, args, short string, check app.ArgCheck, build func(*app.App, *pflag.FlagSet) app.RunFunc) *app.Command {
	return &app.Command{Name: name, Args: args, Short: short, AKA: []string{"container " + name, name}, Check: check, Build: build}
}

func common(c *app.Command) *app.Command {
	c.Group = "common"
	return c
}

// ahead ends the flags at the first argument: what follows is somebody else's command line.
func ahead(c *app.Command) *app.Command {
	c.StopFlags = true
	return c
}

func rm() *app.Command {
	c := verb("rm", some, "Remove one or more containers", app.MinArgs(1), life.BuildRm)
	c.AKA = []string{"container rm", "container remove", "rm"}
	return c
}

func cp() *app.Command {
	c := verb("cp", "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-", "Copy files between a container and this machine", app.ExactArgs(2), files.BuildCp)
	c.Usage2 = "[OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH"
	c.Long = "Copy files between a container and this machine\n\n'-' as source is a tar archive on STDIN, which is unpacked into a directory of the container.\n'-' as destination writes a tar archive of the source to STDOUT."
	return c
}
