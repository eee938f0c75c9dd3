// Command gantry-manifest is the part of `gantry manifest` that reaches registries. gantry hands over to it, with the
// command line as it was typed.
package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/manifest"
	"github.com/gantry-engine/gantry/internal/cli/ref"
	driver "github.com/gantry-engine/gantry/internal/driver/registry"
	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/images"
	"github.com/gantry-engine/gantry/internal/version"
)

func main() {
	name := "gantry"
	if strings.TrimSuffix(filepath.Base(os.Getenv("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND")), ".exe") == "docker" {
		name = "docker"
	}
	_ = log.SetLevel("error") // of the package for hosts, which tells about each one
	a := app.New(name)
	root := &app.Command{Args: "[OPTIONS] COMMAND", Short: "Manage image manifests and manifest lists", Sub: func() []*app.Command {
		return []*app.Command{manifest.Group(opener(a))}
	}}
	os.Exit(a.Finish(a.Run(context.Background(), root, os.Args[1:], app.Hooks{
		Plugin:  func(context.Context, string, []string) (bool, error) { return false, nil },
		Plugins: func() []*app.Command { return nil },
	})))
}

// opener reaches registries as the engine does, but with what this user has set.
func opener(a *app.App) manifest.Opener {
	return func(ctx context.Context, r ref.Ref, auth registry.AuthConfig, insecure bool) (manifest.Repository, error) {
		named, err := reference.ParseNormalizedNamed(r.Name())
		if err != nil {
			return nil, err
		}
		cfg := driver.Config{CertDirs: certDirs(a.Home.Dir), UserAgent: "gantry/" + version.Version}
		if insecure {
			cfg.Insecure = []string{r.Domain}
		}
		c, err := driver.New(cfg, nil)
		if err != nil {
			return nil, err
		}
		opened, err := c.Open(ctx, named, auth)
		return repository{opened}, err
	}
}

// repository tells apart what a registry does not have from what is not for this user: people at a terminal need to know.
type repository struct{ images.Repository }

// Resolve finds what a tag or a digest names.
func (r repository) Resolve(ctx context.Context, tag string) (ocispec.Descriptor, error) {
	d, err := r.Repository.Resolve(ctx, tag)
	return d, refusal(err)
}

// Fetch reads a manifest or a blob.
func (r repository) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	rc, err := r.Repository.Fetch(ctx, d, offset)
	return rc, refusal(err)
}

func refusal(err error) error {
	if errdefs.IsNotFound(err) && !driver.Unknown(err) {
		return classed.Errorf(errdefs.ErrPermissionDenied, "%v", err)
	}
	return err
}

// certDirs are the folders with registries' certificates: this machine's, then the user's.
func certDirs(home string) []string {
	own := filepath.Join(home, "certs.d")
	if runtime.GOOS == "windows" {
		return []string{filepath.Join(os.Getenv("ProgramData"), "docker", "certs.d"), own}
	}
	return []string{"/etc/gantry/certs.d", "/etc/docker/certs.d", own}
}
