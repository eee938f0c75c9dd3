package registry

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/kit/sibling"
	"github.com/gantry-engine/gantry/internal/registryserver/flags"
)

// server is the executable that is the registry.
const serverName = "gantry-registry"

// Group is `registry`: a registry of one's own, and a look into others.
func Group() *app.Command {
	return &app.Command{Name: "registry", Args: "COMMAND", Short: "Run a private registry, and look into registries", Group: "management", Sub: func() []*app.Command {
		return []*app.Command{
			{Name: "serve", Args: "[OPTIONS]", Short: "Serve a private registry", Check: app.NoArgs, Build: buildServe},
			{Name: "gc", Args: "[OPTIONS]", Short: "Remove what nothing in a private registry refers to", Check: app.NoArgs, Build: buildCollect},
			{Name: "user", Args: "COMMAND", Short: "Manage the users of a private registry", Sub: users},
			{Name: "repo", Args: "COMMAND", Short: "Look at a registry's repositories", Sub: func() []*app.Command {
				return []*app.Command{{Name: "ls", Aliases: []string{"list"}, Args: "[OPTIONS] REGISTRY", Short: "List a registry's repositories", Check: app.ExactArgs(1), Build: buildRepoList}}
			}},
			{Name: "tag", Args: "COMMAND", Short: "Look at a repository's tags", Sub: func() []*app.Command {
				return []*app.Command{{Name: "ls", Aliases: []string{"list"}, Args: "[OPTIONS] REGISTRY/REPOSITORY", Short: "List a repository's tags", Check: app.ExactArgs(1), Build: buildTagList}}
			}},
			{Name: "rm", Aliases: []string{"remove"}, Args: "[OPTIONS] REGISTRY/REPOSITORY[:TAG|@DIGEST] [...]", Short: "Remove tags and manifests from a registry", Check: app.MinArgs(1), Build: buildRemove},
		}
	}}
}

func users() []*app.Command {
	return []*app.Command{
		{Name: "add", Args: "[OPTIONS] USER", Short: "Add a user, or give him another password", Check: app.ExactArgs(1), Build: buildUser("add")},
		{Name: "ls", Aliases: []string{"list"}, Args: "[OPTIONS]", Short: "List users", Check: app.NoArgs, Build: buildUser("ls")},
		{Name: "rm", Aliases: []string{"remove"}, Args: "[OPTIONS] USER [USER...]", Short: "Remove users", Check: app.MinArgs(1), Build: buildUser("rm")},
	}
}

func buildServe(_ *app.App, f *pflag.FlagSet) app.RunFunc {
	var o flags.Serve
	o.Register(f)
	return handOver(f, "serve")
}

func buildCollect(_ *app.App, f *pflag.FlagSet) app.RunFunc {
	var o flags.Collect
	o.Register(f)
	return handOver(f, "gc")
}

func buildUser(verb string) func(*app.App, *pflag.FlagSet) app.RunFunc {
	return func(_ *app.App, f *pflag.FlagSet) app.RunFunc {
		var o flags.User
		o.Register(f, verb == "add")
		return handOver(f, "user", verb)
	}
}

// handOver makes this process the registry's executable, with the flags that were given.
func handOver(f *pflag.FlagSet, words ...string) app.RunFunc {
	return func(_ context.Context, args []string) error {
		if runtime.GOOS != "linux" {
			return fmt.Errorf("a private registry runs on Linux only; this is %s", runtime.GOOS)
		}
		path := sibling.Path(serverName)
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%s is not installed beside this program: it is a part of the engine's package", serverName)
		}
		words = append(words, given(f)...)
		if len(args) > 0 {
			words = append(append(words, "--"), args...)
		}
		return become(path, words, os.Environ())
	}
}

// given spells the flags that were given.
func given(f *pflag.FlagSet) (words []string) {
	f.Visit(func(fl *pflag.Flag) {
		if list, ok := fl.Value.(pflag.SliceValue); ok {
			for _, v := range list.GetSlice() {
				words = append(words, "--"+fl.Name+"="+v)
			}
			return
		}
		words = append(words, "--"+fl.Name+"="+fl.Value.String())
	})
	return words
}
