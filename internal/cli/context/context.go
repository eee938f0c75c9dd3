// Package context has the verbs for contexts: named addresses of engines, in the store docker's command line uses.
package context

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/config"
	"github.com/gantry-engine/gantry/internal/cli/format"
)

// Group is `context` with its verbs.
func Group() *app.Command {
	return &app.Command{Name: "context", Args: "COMMAND", Short: "Manage contexts", Group: "management", Sub: func() []*app.Command {
		return []*app.Command{
			{Name: "create", Args: "[OPTIONS] CONTEXT", Short: "Create a context", Check: app.ExactArgs(1), Build: buildCreate,
				Long: "Create a context\n\nThe engine is described by words of --docker:\n\nNAME                DESCRIPTION\nfrom                Context to copy the engine's address from\nhost                Address of the engine\nca                  Trust only certificates signed by this authority\ncert                File with the client's certificate\nkey                 File with the client's key\nskip-tls-verify     Do not verify the engine's certificate"},
			{Name: "export", Args: "[OPTIONS] CONTEXT [FILE|-]", Short: "Write a context to a tar archive, or to STDOUT", Check: app.RangeArgs(1, 2), Build: buildExport},
			{Name: "import", Args: "CONTEXT FILE|-", Short: "Read a context from a tar or zip file", Check: app.ExactArgs(2), Build: buildImport},
			{Name: "inspect", Args: "[OPTIONS] [CONTEXT] [CONTEXT...]", Short: "Show everything about one or more contexts", Build: buildInspect},
			{Name: "ls", Aliases: []string{"list"}, Args: "[OPTIONS]", Short: "List contexts", AKA: []string{"context ls", "context list"}, Check: app.NoArgs, Build: buildLs},
			{Name: "rm", Aliases: []string{"remove"}, Args: "CONTEXT [CONTEXT...]", Short: "Remove one or more contexts", AKA: []string{"context rm", "context remove"}, Check: app.MinArgs(1), Build: buildRm},
			{Name: "show", Short: "Print the name of the context in use", Check: app.NoArgs, Build: buildShow},
			{Name: "update", Args: "[OPTIONS] CONTEXT", Short: "Change a context", Check: app.ExactArgs(1), Build: buildUpdate},
			{Name: "use", Args: "CONTEXT", Short: "Set the context to use", Check: app.ExactArgs(1), Build: buildUse},
		}
	}}
}

func buildShow(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(context.Context, []string) error {
		fmt.Fprintln(a.Out, a.CurrentContext())
		return nil
	}
}

func buildUse(a *app.App, _ *pflag.FlagSet) app.RunFunc {
	return func(_ context.Context, args []string) error {
		name := args[0]
		var value any
		if name != config.DefaultContext {
			if err := config.ValidContextName(name); err != nil {
				return err
			}
			if _, err := a.Home.Contexts().Get(name); err != nil {
				return err
			}
			value = name
		}
		if err := a.Home.Config().Set("currentContext", value); err != nil {
			return err
		}
		fmt.Fprintln(a.Out, name)
		fmt.Fprintf(a.Err, "Current context is now %q\n", name)
		for _, v := range []string{"GANTRY_HOST", "DOCKER_HOST"} {
			if name != config.DefaultContext && a.Env(v) != "" {
				fmt.Fprintf(a.Err, "Warning: %s environment variable overrides the active context. To use %q, either set the global --context flag, or unset %s environment variable.\n", v, name, v)
			}
		}
		return nil
	}
}

func buildRm(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var force bool
	f.BoolVarP(&force, "force", "f", false, "Remove a context that is in use, too")
	return func(_ context.Context, args []string) error {
		return a.Each(args, func(name string) error {
			if name == config.DefaultContext {
				return errors.New(`context "default" cannot be removed`)
			}
			if name == a.CurrentContext() && !force {
				return fmt.Errorf("context %q is in use, set -f flag to force remove", name)
			}
			if !a.Home.Contexts().Has(name) && !force {
				return fmt.Errorf("context %q does not exist", name)
			}
			if name == a.Home.Config().CurrentContext {
				if err := a.Home.Config().Set("currentContext", nil); err != nil {
					return err
				}
			}
			return a.Home.Contexts().Remove(name)
		})
	}
}

func buildCreate(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var description, from string
	var docker map[string]string
	f.StringVar(&description, "description", "", "Description of the context")
	f.StringToStringVar(&docker, "docker", nil, "Address of the engine, as key=value words")
	f.StringVar(&from, "from", "", "Context to copy")
	return func(_ context.Context, args []string) error {
		name, s := args[0], a.Home.Contexts()
		if err := config.ValidContextName(name); err != nil {
			return err
		}
		if s.Has(name) {
			return fmt.Errorf("context %q already exists", name)
		}
		c := config.Context{Name: name, Metadata: map[string]any{}, Endpoints: map[string]config.Endpoint{}}
		var files map[string][]byte
		var err error
		switch {
		case docker == nil && from == "":
			from = config.DefaultContext
			fallthrough
		case docker == nil:
			c.Endpoints["docker"], files, c.Metadata, err = copyOf(a, from)
		default:
			c.Endpoints["docker"], files, err = endpoint(a, docker)
		}
		if err != nil {
			return err
		}
		if description != "" || c.Metadata == nil {
			c.Metadata = map[string]any{}
			if description != "" {
				c.Metadata["Description"] = description
			}
		}
		return save(a, c, files, "created")
	}
}

func save(a *app.App, c config.Context, files map[string][]byte, verb string) error {
	if err := a.Home.Contexts().Put(c); err != nil {
		return err
	}
	if err := a.Home.Contexts().PutTLS(c.Name, files); err != nil {
		return err
	}
	fmt.Fprintln(a.Out, c.Name)
	fmt.Fprintf(a.Err, "Successfully %s context %q\n", verb, c.Name)
	return nil
}

// copyOf is another context's endpoint, certificates and metadata.
func copyOf(a *app.App, from string) (config.Endpoint, map[string][]byte, map[string]any, error) {
	if from == config.DefaultContext {
		t, err := defaultTarget(a)
		return config.Endpoint{Host: t.Host, SkipTLSVerify: t.SkipTLS}, nil, nil, err
	}
	c, err := a.Home.Contexts().Get(from)
	if err != nil {
		return config.Endpoint{}, nil, nil, err
	}
	files, err := a.Home.Contexts().TLS(from)
	return c.Endpoints["docker"], files, c.Metadata, err
}

// defaultTarget is the engine of the context made of environment alone.
func defaultTarget(a *app.App) (app.Target, error) {
	b := *a
	b.Globals.Context = config.DefaultContext
	return b.Target()
}

// endpoint reads the words of --docker.
func endpoint(a *app.App, words map[string]string) (config.Endpoint, map[string][]byte, error) {
	ep, files, err := readEndpoint(a, words)
	if err != nil {
		return ep, nil, fmt.Errorf("unable to create docker endpoint config: %w", err)
	}
	return ep, files, nil
}

func readEndpoint(a *app.App, words map[string]string) (ep config.Endpoint, files map[string][]byte, err error) {
	files = map[string][]byte{}
	for k := range words {
		if !slices.Contains([]string{"from", "host", "ca", "cert", "key", "skip-tls-verify"}, k) {
			return ep, nil, fmt.Errorf("unrecognized config key: %s", k)
		}
	}
	if from := words["from"]; from != "" {
		ep, files, _, err = copyOf(a, from)
		if err != nil {
			return ep, nil, err
		}
	}
	if files == nil {
		files = map[string][]byte{}
	}
	if v, ok := words["skip-tls-verify"]; ok {
		if ep.SkipTLSVerify, err = strconv.ParseBool(v); err != nil {
			return ep, nil, fmt.Errorf("skip-tls-verify: parsing %q: %w", v, errors.Unwrap(err))
		}
	}
	if h := words["host"]; h != "" {
		if ep.Host, err = a.ParseHost(h); err != nil {
			return ep, nil, err
		}
	}
	for word, file := range map[string]string{"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"} {
		if p := words[word]; p != "" {
			if files[file], err = os.ReadFile(p); err != nil {
				return ep, nil, err
			}
		}
	}
	if err := app.CheckTLS(files, ep.SkipTLSVerify); err != nil {
		return ep, nil, fmt.Errorf("invalid docker endpoint options: failed to retrieve context tls info: %w", err)
	}
	return ep, files, nil
}

func buildUpdate(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var description string
	var docker map[string]string
	f.StringVar(&description, "description", "", "Description of the context")
	f.StringToStringVar(&docker, "docker", nil, "Address of the engine, as key=value words")
	return func(_ context.Context, args []string) error {
		if err := config.ValidContextName(args[0]); err != nil {
			return err
		}
		c, err := a.Home.Contexts().Get(args[0])
		if err != nil {
			return err
		}
		files, err := a.Home.Contexts().TLS(args[0])
		if err != nil {
			return err
		}
		if description != "" {
			if c.Metadata == nil {
				c.Metadata = map[string]any{}
			}
			c.Metadata["Description"] = description
		}
		if docker != nil {
			if c.Endpoints == nil {
				c.Endpoints = map[string]config.Endpoint{}
			}
			if c.Endpoints["docker"], files, err = endpoint(a, docker); err != nil {
				return err
			}
		}
		return save(a, c, files, "updated")
	}
}

var header = map[string]string{"Name": "NAME", "Description": "DESCRIPTION", "DockerEndpoint": "DOCKER ENDPOINT", "Error": "ERROR"}

func buildLs(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl string
	var quiet bool
	f.StringVar(&tmpl, "format", "", app.FormatHelp)
	f.BoolVarP(&quiet, "quiet", "q", false, "Show names only")
	return func(context.Context, []string) error {
		list, err := a.Home.Contexts().List()
		if err != nil {
			return err
		}
		current := a.CurrentContext()
		t, terr := defaultTarget(a)
		rows := []*Row{{name: config.DefaultContext, description: "Current DOCKER_HOST based configuration", host: t.Host, err: terr, current: current == config.DefaultContext}}
		for _, c := range list {
			rows = append(rows, &Row{name: c.Name, description: c.Description(), host: c.Endpoints["docker"].Host, current: current == c.Name})
		}
		slices.SortFunc(rows, func(x, y *Row) int { return strings.Compare(x.name, y.name) })
		switch {
		case quiet:
			tmpl = "{{.Name}}"
		case tmpl == "" || tmpl == format.TableKey:
			tmpl = "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}"
		}
		if err := format.Write(a.Out, format.Table{Format: tmpl, Header: header}, rows); err != nil {
			return err
		}
		if v := a.Env("DOCKER_HOST"); v != "" {
			fmt.Fprint(a.Err, "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the global --context flag, or unset DOCKER_HOST environment variable.\n")
		}
		return nil
	}
}

// Row is one context in a list.
type Row struct {
	format.Row
	name, description, host string
	err                     error
	current                 bool
}

// Current says whether it is in use.
func (r *Row) Current() bool { return r.current }

// Name is the context's name.
func (r *Row) Name() string { return r.name }

// Description is its description.
func (r *Row) Description() string { return format.Ellipsis(r.description, 60) }

// DockerEndpoint is the engine's address.
func (r *Row) DockerEndpoint() string { return r.host }

// Error says what is wrong with it.
func (r *Row) Error() string {
	if r.err == nil {
		return ""
	}
	return r.err.Error()
}

func buildInspect(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl string
	f.StringVarP(&tmpl, "format", "f", "", app.InspectFormatHelp)
	return func(_ context.Context, args []string) error {
		if len(args) == 0 {
			args = []string{a.CurrentContext()}
		}
		return format.Inspect(a.Out, args, tmpl, func(name string) (format.Object, error) { return describe(a, name) })
	}
}

type description struct {
	Name        string
	Metadata    map[string]any
	Endpoints   map[string]config.Endpoint
	TLSMaterial map[string][]string
	Storage     struct{ MetadataPath, TLSPath string }
}

func describe(a *app.App, name string) (format.Object, error) {
	d := description{Name: name, Metadata: map[string]any{}, TLSMaterial: map[string][]string{}}
	if name == config.DefaultContext {
		t, err := defaultTarget(a)
		if err != nil {
			return format.Object{}, err
		}
		d.Endpoints = map[string]config.Endpoint{"docker": {Host: t.Host, SkipTLSVerify: t.SkipTLS}}
		d.Storage.MetadataPath, d.Storage.TLSPath = "<IN MEMORY>", "<IN MEMORY>"
	} else {
		c, err := a.Home.Contexts().Get(name)
		if err != nil {
			return format.Object{}, err
		}
		d.Endpoints = c.Endpoints
		if c.Metadata != nil {
			d.Metadata = c.Metadata
		}
		files, err := a.Home.Contexts().TLS(name)
		if err != nil {
			return format.Object{}, err
		}
		for f := range files {
			d.TLSMaterial["docker"] = append(d.TLSMaterial["docker"], f)
		}
		slices.Sort(d.TLSMaterial["docker"])
		d.Storage.MetadataPath, d.Storage.TLSPath = a.Home.Contexts().MetaDir(name), a.Home.Contexts().TLSDir(name)
	}
	b, err := json.Marshal(d)
	return format.Object{Raw: b, Typed: d}, err
}
