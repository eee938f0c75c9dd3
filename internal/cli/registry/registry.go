// Package registry has the verbs that reach registries through the engine (login, logout, search), those of a registry of one's own,
// and build.
package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/registry"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/config"
	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/cli/opts"
)

// hub is the key of Docker Hub's credentials, hubHost where it answers.
const (
	hub     = "https://index.docker.io/v1/"
	hubHost = "registry-1.docker.io"
)

// Top is the verbs that need no group in front.
func Top() []*app.Command {
	return []*app.Command{
		{Name: "login", Args: "[OPTIONS] [SERVER]", Short: "Log in to a registry", Group: "common", Check: app.MaxArgs(1), Build: buildLogin},
		{Name: "logout", Args: "[SERVER]", Short: "Log out from a registry", Group: "common", Check: app.MaxArgs(1), Build: buildLogout},
		{Name: "search", Args: "[OPTIONS] TERM", Short: "Search Docker Hub for images", Group: "common", Check: app.ExactArgs(1), Build: buildSearch},
		{Name: "build", Args: "[OPTIONS] PATH | URL | -", Short: "Build an image from a Dockerfile", Group: "common", AKA: []string{"image build", "build"}, Check: app.ExactArgs(1), Build: buildBuild},
	}
}

func server(args []string) string {
	if len(args) == 0 || args[0] == "docker.io" || args[0] == "index.docker.io" {
		return hub
	}
	s := strings.TrimPrefix(strings.TrimPrefix(args[0], "https://"), "http://")
	s, _, _ = strings.Cut(s, "/")
	return s
}

func buildLogin(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var user, password string
	var stdin bool
	f.StringVarP(&password, "password", "p", "", "Password or access token")
	f.BoolVar(&stdin, "password-stdin", false, "Read the password or access token from STDIN")
	f.StringVarP(&user, "username", "u", "", "User name")
	return func(ctx context.Context, args []string) error {
		if stdin && password != "" {
			return errors.New("conflicting options: cannot specify both --password and --password-stdin")
		}
		if password != "" {
			fmt.Fprintln(a.Err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
		}
		if stdin {
			if user == "" {
				return errors.New("the --password-stdin option requires --username to be set")
			}
			b, err := io.ReadAll(a.In)
			if err != nil {
				return err
			}
			password = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
		}
		if err := ask(a, &user, &password); err != nil {
			return err
		}
		cred := registry.AuthConfig{Username: user, Password: password, ServerAddress: server(args)}
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		var out registry.AuthResponse
		err = c.Post(ctx, "/auth", nil, cred, &out)
		if unreached := (*api.ConnError)(nil); errors.As(err, &unreached) {
			out.Status, err = "Login Succeeded", try(ctx, cred)
		}
		if err != nil {
			return err
		}
		auth := config.Auth{Auth: base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}
		if out.IdentityToken != "" {
			auth = config.Auth{IdentityToken: out.IdentityToken}
		}
		if a.Home.Config().CredentialsStore != "" || a.Home.Config().CredentialHelpers[cred.ServerAddress] != "" {
			if err := store(a, cred, out.IdentityToken); err != nil {
				return err
			}
		} else {
			auths := a.Home.Config().Auths
			if auths == nil {
				auths = map[string]config.Auth{}
			}
			auths[cred.ServerAddress] = auth
			if err := a.Home.Config().Set("auths", auths); err != nil {
				return err
			}
			fmt.Fprintf(a.Err, "\nWARNING! Your credentials are stored unencrypted in '%s'.\nA credential helper (credsStore) keeps them safe.\n\n", a.Home.Config().Path())
		}
		fmt.Fprintln(a.Out, out.Status)
		return nil
	}
}

// try shows credentials to a registry itself, where no engine does: who has only a client may log in all the same.
func try(ctx context.Context, cred registry.AuthConfig) error {
	p := place{host: cred.ServerAddress}
	if p.host == hub {
		p.host = hubHost
	}
	r, err := reach(ctx, p, false, cred)
	if err != nil {
		return fmt.Errorf("no engine answers, and logging in without one failed: %w", err)
	}
	r.http.CloseIdleConnections()
	return nil
}

// ask asks for what is missing, where somebody is there to answer.
func ask(a *app.App, user, password *string) error {
	if *user != "" && *password != "" {
		return nil
	}
	if !a.In.IsTerminal() {
		return errors.New("Error: Cannot perform an interactive login from a non TTY device") // docker's text
	}
	var err error
	if *user == "" {
		fmt.Fprint(a.Out, "Username: ")
		if *user, err = a.In.ReadLine(); err != nil {
			return err
		}
		if *user == "" {
			return errors.New("username is required")
		}
	}
	if *password == "" {
		fmt.Fprint(a.Out, "Password: ")
		if *password, err = a.In.ReadPassword(); err != nil {
			return err
		}
		fmt.Fprintln(a.Out)
		if *password == "" {
			return errors.New("password is required")
		}
	}
	return nil
}

func buildLogout(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(_ context.Context, args []string) error {
		s := server(args)
		auths := a.Home.Config().Auths
		fmt.Fprintln(a.Out, "Removing login credentials for", s)
		if helper(a, s) != "" {
			return erase(a, s)
		}
		if _, ok := auths[s]; !ok {
			return nil
		}
		delete(auths, s)
		return a.Home.Config().Set("auths", auths)
	}
}

func buildSearch(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl string
	var limit int
	var noTrunc bool
	var filter opts.Filter
	f.VarP(&filter, "filter", "f", "Only what matches")
	f.StringVar(&tmpl, "format", "", app.FormatHelp)
	f.IntVar(&limit, "limit", 0, "Largest number of results")
	f.BoolVar(&noTrunc, "no-trunc", false, "Show everything in full")
	return func(ctx context.Context, args []string) error {
		if filter.Has("is-automated") {
			fmt.Fprintln(a.Err, `WARNING: the "is-automated" filter is deprecated, and searching for "is-automated=true" will not yield any results in future.`)
		}
		q := filter.Query(nil)
		q.Set("term", args[0])
		if limit > 0 {
			q.Set("limit", strconv.Itoa(limit))
		}
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		var list []registry.SearchResult
		if err := c.Get(ctx, "/images/search", url.Values(q), &list); err != nil {
			return err
		}
		rows := make([]*Row, len(list))
		for i := range list {
			rows[i] = &Row{r: &list[i], trunc: !noTrunc}
		}
		if tmpl == "" || tmpl == format.TableKey {
			tmpl = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}"
		}
		head := map[string]string{"Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL", "IsAutomated": "AUTOMATED"}
		return format.Write(a.Out, format.Table{Format: tmpl, Header: head}, rows)
	}
}

// Row is one image found.
type Row struct {
	format.Row
	r     *registry.SearchResult
	trunc bool
}

// Name is the image's name.
func (r *Row) Name() string { return r.r.Name }

// Description is its description, on one line.
func (r *Row) Description() string {
	s := strings.ReplaceAll(strings.ReplaceAll(r.r.Description, "\n", " "), "\r", " ")
	if r.trunc {
		return format.Ellipsis(s, 45)
	}
	return s
}

// StarCount is how many like it.
func (r *Row) StarCount() string { return strconv.Itoa(r.r.StarCount) }

// JSON is what is known of the image, in words.
func (r *Row) JSON() any {
	return map[string]string{"Name": r.Name(), "Description": r.Description(), "StarCount": r.StarCount(), "IsOfficial": strconv.FormatBool(r.r.IsOfficial)}
}

// IsOfficial marks official images.
func (r *Row) IsOfficial() string {
	if r.r.IsOfficial {
		return "[OK]"
	}
	return ""
}
