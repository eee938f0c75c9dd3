// Package system has the verbs about the engine as a whole: version, info, events, df, prune, inspect.
package system

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/moby/moby/api/types/system"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/version"
)

type clientVersion struct {
	Platform          *system.PlatformInfo `json:",omitempty"`
	Version           string
	APIVersion        string `json:"ApiVersion"`
	DefaultAPIVersion string
	GitCommit         string
	GoVersion         string
	Os                string
	Arch              string
	BuildTime         string `json:",omitempty"`
	Context           string
}

type versionInfo struct {
	Client clientVersion
	Server *system.VersionResponse
}

// ServerOK says whether the engine answered.
func (v versionInfo) ServerOK() bool { return v.Server != nil }

func buildVersion(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl string
	f.StringVarP(&tmpl, "format", "f", "", app.InspectFormatHelp)
	return func(ctx context.Context, _ []string) error {
		if tmpl != "" {
			if _, err := format.Parse(tmpl); err != nil {
				return &app.Exit{Code: 64, Err: fmt.Errorf("template parsing error: %w", err)}
			}
		}
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		var server system.VersionResponse
		serr := c.Get(ctx, "/version", nil, &server)
		v := versionInfo{Client: clientVersion{Version: version.Version, APIVersion: c.Version(), DefaultAPIVersion: api.MaxVersion, GitCommit: version.Commit,
			GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH, Context: a.Engine.CurrentContext()}}
		if serr == nil {
			v.Server = &server
			if v.Client.APIVersion == api.MaxVersion && api.LessThan(server.APIVersion, api.MaxVersion) {
				v.Client.APIVersion = server.APIVersion
			}
		}
		if tmpl == "" {
			writeVersion(a.Out, title(a), v)
		} else {
			out, err := format.Execute(tmpl, v)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out, out)
		}
		return serr
	}
}

func title(a *app.App) string {
	if a.IsDocker() {
		return "Docker Engine - Community"
	}
	return "Gantry"
}

func writeVersion(out io.Writer, name string, v versionInfo) {
	w := tabwriter.NewWriter(out, 20, 1, 1, ' ', 0)
	api1 := v.Client.APIVersion
	if v.Client.DefaultAPIVersion != api1 {
		api1 += " (downgraded from " + v.Client.DefaultAPIVersion + ")"
	}
	row := func(indent, k, val string) { fmt.Fprintf(w, "%s%s:\t%s\n", indent, k, val) }
	fmt.Fprintf(w, "Client: %s\n", name)
	row(" ", "Version", v.Client.Version)
	row(" ", "API version", api1)
	row(" ", "Go version", v.Client.GoVersion)
	row(" ", "Git commit", v.Client.GitCommit)
	if v.Client.BuildTime != "" {
		row(" ", "Built", v.Client.BuildTime)
	}
	row(" ", "OS/Arch", v.Client.Os+"/"+v.Client.Arch)
	row(" ", "Context", v.Client.Context)
	if s := v.Server; s != nil {
		fmt.Fprintf(w, "\nServer: %s\n", s.Platform.Name)
		if len(s.Components) == 0 {
			s.Components = []system.ComponentVersion{{Name: "Engine", Version: s.Version, Details: map[string]string{"ApiVersion": s.APIVersion, "MinAPIVersion": s.MinAPIVersion,
				"GitCommit": s.GitCommit, "GoVersion": s.GoVersion, "Os": s.Os, "Arch": s.Arch, "BuildTime": s.BuildTime, "Experimental": fmt.Sprint(s.Experimental)}}}
		}
		for _, c := range s.Components {
			component(w, c, row)
		}
	}
	_ = w.Flush()
}

func component(w io.Writer, c system.ComponentVersion, row func(indent, k, v string)) {
	fmt.Fprintf(w, " %s:\n", c.Name)
	row("  ", "Version", c.Version)
	d := c.Details
	if c.Name == "Engine" {
		row("  ", "API version", fmt.Sprintf("%s (minimum version %s)", d["ApiVersion"], d["MinAPIVersion"]))
		row("  ", "Go version", d["GoVersion"])
		row("  ", "Git commit", d["GitCommit"])
		if t, err := time.Parse(time.RFC3339Nano, d["BuildTime"]); err == nil {
			row("  ", "Built", t.Format(time.ANSIC))
		} else {
			row("  ", "Built", d["BuildTime"])
		}
		row("  ", "OS/Arch", d["Os"]+"/"+d["Arch"])
		row("  ", "Experimental", d["Experimental"])
		return
	}
	var keys []string
	for k := range d {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		row("  ", strings.TrimSpace(k), d[k])
	}
}
