package image

import (
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/trust"
)

// Group is `image` with its verbs.
func Group() *app.Command {
	return &app.Command{Name: "image", Args: "COMMAND", Short: "Manage images", Group: "management", Sub: func() []*app.Command {
		list := []*app.Command{bootstrap(), convert(), history(), imports(), {Name: "inspect", Args: "[OPTIONS] IMAGE [IMAGE...]", Short: "Show everything about one or more images", Check: app.MinArgs(1), Build: buildInspect},
			load(), {Name: "ls", Aliases: []string{"list"}, Args: "[OPTIONS] [REPOSITORY[:TAG]]", Short: "List images", AKA: lsPaths, Check: app.MaxArgs(1), Build: buildLs},
			{Name: "prune", Args: "[OPTIONS]", Short: "Remove unused images", Check: app.NoArgs, Build: buildPrune}, pull(), push(),
			{Name: "rm", Aliases: []string{"remove"}, Args: "[OPTIONS] IMAGE [IMAGE...]", Short: "Remove one or more images", AKA: rmPaths, Check: app.MinArgs(1), Build: buildRm}, save(), tag()}
		return append(list, trust.Commands(AuthHeader)...)
	}}
}

// Top is the verbs for images that need no group in front.
func Top() []*app.Command {
	return []*app.Command{bootstrap(), history(), imports(), load(), {Name: "images", Args: "[OPTIONS] [REPOSITORY[:TAG]]", Short: "List images", Group: "common", AKA: lsPaths, Check: app.MaxArgs(1), Build: buildLs},
		common(pull()), common(push()), {Name: "rmi", Args: "[OPTIONS] IMAGE [IMAGE...]", Short: "Remove one or more images", AKA: rmPaths, Check: app.MinArgs(1), Build: buildRm}, save(), tag()}
}

var (
	lsPaths = []string{"image ls", "image list", "images"}
	rmPaths = []string{"image rm", "image remove", "rmi"}
)

func common(c *app.Command) *app.Command {
	c.Group = "common"
	return c
}

func verb(name, args, short string, check app.ArgCheck, build func(*app.App, *pflag.FlagSet) app.RunFunc) *app.Command {
	return &app.Command{Name: name, Args: args, Short: short, AKA: []string{"image " + name, name}, Check: check, Build: build}
}

func history() *app.Command {
	return verb("history", "[OPTIONS] IMAGE", "Show how an image was made", app.ExactArgs(1), buildHistory)
}
func imports() *app.Command {
	return verb("import", "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]", "Make an image of a tar archive's files", app.MinArgs(1), buildImport)
}
func load() *app.Command {
	return verb("load", "[OPTIONS]", "Load images from a tar archive or STDIN", app.NoArgs, buildLoad)
}
func pull() *app.Command {
	return verb("pull", "[OPTIONS] NAME[:TAG|@DIGEST]", "Download an image from a registry", app.ExactArgs(1), buildPull)
}
func push() *app.Command {
	return verb("push", "[OPTIONS] NAME[:TAG]", "Upload an image to a registry", app.ExactArgs(1), buildPush)
}
func save() *app.Command {
	return verb("save", "[OPTIONS] IMAGE [IMAGE...]", "Save images to a tar archive (STDOUT by default)", app.MinArgs(1), buildSave)
}
func tag() *app.Command {
	return verb("tag", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Give an image a further name", app.ExactArgs(2), buildTag)
}
