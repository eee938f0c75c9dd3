// Package image has the verbs for images, one file each.
package image

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/moby/moby/api/types/registry"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/progress"
	"github.com/gantry-engine/gantry/internal/cli/ref"
)

func buildPull(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var all, quiet, lazy bool
	var platform string
	f.BoolVarP(&all, "all-tags", "a", false, "Download all tags of the repository")
	withTrust(f)
	f.StringVar(&platform, "platform", a.Env("DOCKER_DEFAULT_PLATFORM"), "Platform of the image")
	f.Lookup("platform").DefValue = ""
	f.BoolVarP(&quiet, "quiet", "q", false, "Print nothing but the result")
	f.BoolVar(&lazy, "lazy", false, "Leave eStargz layers where they are, and fetch them when they are read")
	return func(ctx context.Context, args []string) error {
		r, err := ref.Parse(args[0])
		if err != nil {
			return err
		}
		if all && (r.Tag != "" || r.Digest != "") {
			return errors.New("tag can't be used with --all-tags/-a")
		}
		if !all && r.Tag == "" && r.Digest == "" {
			r = r.WithTag()
			if !quiet {
				fmt.Fprintf(a.Out, "Using default tag: %s\n", r.Tag)
			}
		}
		if err := Pull(ctx, a, PullRequest{Ref: r, Platform: platform, Quiet: quiet, Lazy: lazy, Out: a.Out, Columns: a.Out.Columns()}); err != nil {
			return err
		}
		fmt.Fprintln(a.Out, r.String())
		return nil
	}
}

// withTrust accepts a flag of older scripts. Nothing follows from it: there is no content trust of that kind.
func withTrust(f *pflag.FlagSet) {
	f.Bool("disable-content-trust", true, "Skip image verification")
	f.Lookup("disable-content-trust").Hidden = true
}

// PullRequest says what to pull and where to show progress.
type PullRequest struct {
	Ref      ref.Ref
	Platform string
	Quiet    bool
	Lazy     bool // layers come in when they are read, where they can
	Out      io.Writer
	Columns  int // of the terminal; 0 is none
}

// Pull asks the engine to download an image, and shows how far it is.
func Pull(ctx context.Context, a *app.App, p PullRequest) error {
	c, err := a.Engine.Client()
	if err != nil {
		return err
	}
	q := url.Values{"fromImage": {p.Ref.Name()}}
	if p.Ref.Digest != "" {
		q.Set("tag", p.Ref.Digest)
	} else if p.Ref.Tag != "" {
		q.Set("tag", p.Ref.Tag)
	}
	if p.Platform != "" {
		q.Set("platform", p.Platform)
	}
	if p.Lazy {
		q.Set("lazy", "1")
	}
	auth, err := AuthHeader(a, p.Ref.Domain)
	if err != nil {
		return err
	}
	resp, err := c.Do(ctx, api.Request{Method: http.MethodPost, Path: "/images/create", Query: q, Header: auth})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out, columns := p.Out, p.Columns
	if p.Quiet {
		out, columns = io.Discard, 0
	}
	return progress.Show(resp.Body, out, columns, nil)
}

// hubKey is the name under which credentials of the default registry are stored.
const hubKey = "https://index.docker.io/v1/"

// AuthHeader is the header with the stored credentials for a registry, empty when there are none.
func AuthHeader(a *app.App, domain string) (map[string]string, error) {
	key := domain
	if domain == "docker.io" {
		key = hubKey
	}
	cred, err := Credential(a, key)
	if err != nil || cred == (registry.AuthConfig{}) {
		return nil, err
	}
	b, err := json.Marshal(cred)
	if err != nil {
		return nil, err
	}
	return map[string]string{registry.AuthHeader: base64.URLEncoding.EncodeToString(b)}, nil
}

// Credential reads what is stored for a registry: in a credential helper, or in the configuration file.
func Credential(a *app.App, key string) (registry.AuthConfig, error) {
	cfg := a.Home.Config()
	helper := cfg.CredentialHelpers[key]
	if helper == "" {
		helper = cfg.CredentialsStore
	}
	if helper != "" {
		return fromHelper(helper, key)
	}
	for name, auth := range cfg.Auths {
		if name != key && hostOf(name) != hostOf(key) {
			continue
		}
		user, password, err := auth.Credential()
		if err != nil {
			return registry.AuthConfig{}, err
		}
		return registry.AuthConfig{Username: user, Password: password, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken, ServerAddress: name}, nil
	}
	return registry.AuthConfig{}, nil
}

func hostOf(s string) string {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	host, _, _ := strings.Cut(s, "/")
	return host
}
