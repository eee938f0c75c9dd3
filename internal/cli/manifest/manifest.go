// Package manifest has the verbs for manifest lists: images of several platforms under one name. A list is put together in a
// local store, which is shared with docker's command line, annotated there, and pushed.
//
// Registries are reached from here, not by the engine. What that needs is an executable of its own, gantry-manifest, so that
// other commands do not pay for it: in gantry the verbs that ask a registry hand over to it, and only there an Opener is given.
package manifest

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/image"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

// Front is the executable that can reach registries.
const Front = "manifest"

const long = `Put images of several platforms together under one name: create makes a manifest
list in a local store, annotate says what its entries are for, push sends it to a
registry. The images themselves have to be in that registry already.`

// Group is `manifest`. open is nil in the program that does not reach registries itself.
func Group(open Opener) *app.Command {
	verb := func(build func(*verbs, *pflag.FlagSet) app.RunFunc) func(*app.App, *pflag.FlagSet) app.RunFunc {
		return func(a *app.App, f *pflag.FlagSet) app.RunFunc {
			return build(&verbs{a: a, open: open, store: Store{Dir: a.Home.Dir}}, f)
		}
	}
	return &app.Command{Name: "manifest", Args: "COMMAND", Short: "Manage image manifests and manifest lists", Long: long, Group: "management", Sub: func() []*app.Command {
		return []*app.Command{
			{Name: "annotate", Args: "[OPTIONS] MANIFEST_LIST MANIFEST", Short: "Say more about an entry of a local manifest list", Check: app.ExactArgs(2), Build: verb(annotate)},
			{Name: "create", Args: "MANIFEST_LIST MANIFEST [MANIFEST...]", Short: "Create a local manifest list, to annotate it and push it to a registry", Check: app.MinArgs(2), Build: verb(create)},
			{Name: "inspect", Args: "[OPTIONS] [MANIFEST_LIST] MANIFEST", Short: "Show an image manifest, or a manifest list", Check: app.RangeArgs(1, 2), Build: verb(inspect)},
			{Name: "push", Args: "[OPTIONS] MANIFEST_LIST", Short: "Push a manifest list to a registry", Check: app.ExactArgs(1), Build: verb(push)},
			{Name: "rm", Args: "MANIFEST_LIST [MANIFEST_LIST...]", Short: "Delete manifest lists from the local store", Check: app.MinArgs(1), Build: verb(rm)},
		}
	}}
}

// verbs is what a verb works with.
type verbs struct {
	a     *app.App
	open  Opener
	store Store
}

// remote is a verb that asks registries: where they cannot be reached, the executable that can takes over.
func (v *verbs) remote(run app.RunFunc) app.RunFunc {
	if v.open != nil {
		return run
	}
	return func(context.Context, []string) error { return v.a.HandOver(Front) }
}

// repository opens the repository of a name, as the user whose credentials are stored for its registry.
func (v *verbs) repository(ctx context.Context, r ref.Ref, insecure bool) (Repository, error) {
	auth, err := image.Credential(v.a, credentialKey(r.Domain))
	if err != nil {
		return nil, err
	}
	return v.open(ctx, r, auth, insecure)
}

// credentialKey is the name under which credentials for a registry are stored.
func credentialKey(domain string) string {
	if domain == "docker.io" {
		return "https://index.docker.io/v1/"
	}
	return domain
}

// named reads a name; without tag and digest it means the tag latest.
func named(s string) (ref.Ref, error) {
	r, err := ref.Parse(s)
	return r.WithTag(), err
}

// noSuch is a manifest or a list that the local store does not have.
func noSuch(r ref.Ref) error { return fmt.Errorf("No such manifest: %s", r) } // docker's text

// unknown says what a registry's refusal means.
func unknown(r ref.Ref, err error) error {
	if errdefs.IsNotFound(err) && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("no such manifest: %s", r)
	}
	return err
}
