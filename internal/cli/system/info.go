package system

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/system"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/version"
)

type clientInfo struct {
	Debug    bool
	Platform *system.PlatformInfo `json:",omitempty"`
	Version  string               `json:",omitempty"`
	Context  string
	Plugins  []string
	Warnings []string
}

type infoResult struct {
	*system.Info
	ServerErrors []string    `json:",omitempty"`
	ClientInfo   *clientInfo `json:",omitempty"`
	ClientErrors []string    `json:",omitempty"`
}

func buildInfo(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl string
	f.StringVarP(&tmpl, "format", "f", "", app.InspectFormatHelp)
	return func(ctx context.Context, _ []string) error {
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		r := infoResult{Info: &system.Info{}, ClientInfo: &clientInfo{Debug: a.Globals.Debug, Version: version.Version, Context: a.Engine.CurrentContext(), Plugins: []string{}}}
		var raw []byte
		serr := c.Get(ctx, "/info", nil, &raw)
		if serr == nil {
			serr = json.Unmarshal(raw, r.Info)
		}
		if serr != nil {
			r.ServerErrors = []string{serr.Error()}
		}
		if tmpl != "" {
			out, err := format.Execute(tmpl, r)
			if err != nil {
				return &app.Exit{Code: 64, Err: fmt.Errorf("template parsing error: %w", err)}
			}
			fmt.Fprintln(a.Out, out)
			return serr
		}
		p := printer{w: a.Out}
		p.line("Client: %s", title(a))
		p.line(" Version:    %s", r.ClientInfo.Version)
		p.line(" Context:    %s", r.ClientInfo.Context)
		p.line(" Debug Mode: %t", r.ClientInfo.Debug)
		p.line("")
		p.line("Server:")
		if serr != nil {
			return serr
		}
		p.server(r.Info)
		for _, w := range r.Warnings {
			fmt.Fprintln(a.Err, w)
		}
		return nil
	}
}

type printer struct{ w io.Writer }

func (p printer) line(f string, v ...any) { fmt.Fprintf(p.w, f+"\n", v...) }

func (p printer) opt(label, v string) {
	if v != "" {
		p.line(" %s: %s", label, v)
	}
}

func (p printer) server(i *system.Info) {
	p.line(" Containers: %d", i.Containers)
	p.line("  Running: %d", i.ContainersRunning)
	p.line("  Paused: %d", i.ContainersPaused)
	p.line("  Stopped: %d", i.ContainersStopped)
	p.line(" Images: %d", i.Images)
	p.opt("Server Version", i.ServerVersion)
	p.opt("Storage Driver", i.Driver)
	for _, s := range i.DriverStatus {
		p.line("  %s: %s", s[0], s[1])
	}
	p.opt("Logging Driver", i.LoggingDriver)
	p.opt("Cgroup Driver", i.CgroupDriver)
	p.opt("Cgroup Version", i.CgroupVersion)
	p.line(" Plugins:")
	p.line("  Volume: %s", strings.Join(i.Plugins.Volume, " "))
	p.line("  Network: %s", strings.Join(i.Plugins.Network, " "))
	if len(i.Plugins.Authorization) > 0 {
		p.line("  Authorization: %s", strings.Join(i.Plugins.Authorization, " "))
	}
	p.line("  Log: %s", strings.Join(i.Plugins.Log, " "))
	if len(i.CDISpecDirs) > 0 {
		p.line(" CDI spec directories:")
		for _, d := range i.CDISpecDirs {
			p.line("  %s", d)
		}
	}
	if i.Swarm.LocalNodeState != "" {
		p.line(" Swarm: %s", i.Swarm.LocalNodeState)
	}
	if len(i.Runtimes) > 0 {
		var names []string
		for n := range i.Runtimes {
			names = append(names, n)
		}
		slices.Sort(names)
		p.line(" Runtimes: %s", strings.Join(names, " "))
		p.line(" Default Runtime: %s", i.DefaultRuntime)
	}
	if i.OSType == "linux" {
		p.opt("Init Binary", i.InitBinary)
		p.opt("containerd version", i.ContainerdCommit.ID)
		p.opt("runc version", i.RuncCommit.ID)
		p.opt("init version", i.InitCommit.ID)
		p.security(i.SecurityOptions)
	}
	p.machine(i)
}

func (p printer) security(list []string) {
	if len(list) == 0 {
		return
	}
	p.line(" Security Options:")
	for _, s := range list {
		fields := strings.Split(s, ",")
		for _, f := range fields {
			k, v, _ := strings.Cut(f, "=")
			switch {
			case k == "name":
				p.line("  %s", v)
			case k == "profile":
				p.line("   Profile: %s", v)
			default:
				p.line("   %s: %s", k, v)
			}
		}
	}
}

func (p printer) machine(i *system.Info) {
	p.opt("Kernel Version", i.KernelVersion)
	p.opt("Operating System", i.OperatingSystem)
	p.opt("OSType", i.OSType)
	p.opt("Architecture", i.Architecture)
	p.line(" CPUs: %d", i.NCPU)
	p.line(" Total Memory: %s", units.BytesSize(float64(i.MemTotal)))
	p.opt("Name", i.Name)
	p.opt("ID", i.ID)
	p.opt("Docker Root Dir", i.DockerRootDir)
	p.line(" Debug Mode: %t", i.Debug)
	if i.Debug {
		p.line("  File Descriptors: %d", i.NFd)
		p.line("  Goroutines: %d", i.NGoroutines)
		p.line("  System Time: %s", i.SystemTime)
		p.line("  EventsListeners: %d", i.NEventsListener)
	}
	p.opt("HTTP Proxy", i.HTTPProxy)
	p.opt("HTTPS Proxy", i.HTTPSProxy)
	p.opt("No Proxy", i.NoProxy)
	if len(i.Labels) > 0 {
		p.line(" Labels:")
		for _, l := range i.Labels {
			p.line("  %s", l)
		}
	}
	p.line(" Experimental: %t", i.ExperimentalBuild)
	if rc := i.RegistryConfig; rc != nil {
		if len(rc.InsecureRegistryCIDRs) > 0 {
			p.line(" Insecure Registries:")
			for name, r := range rc.IndexConfigs {
				if !r.Secure {
					p.line("  %s", name)
				}
			}
			for _, c := range rc.InsecureRegistryCIDRs {
				p.line("  %s", c)
			}
		}
		if len(rc.Mirrors) > 0 {
			p.line(" Registry Mirrors:")
			for _, m := range rc.Mirrors {
				p.line("  %s", m)
			}
		}
	}
	p.line(" Live Restore Enabled: %t", i.LiveRestoreEnabled)
	p.opt("Product License", i.ProductLicense)
	if len(i.DefaultAddressPools) > 0 {
		p.line(" Default Address Pools:")
		for _, d := range i.DefaultAddressPools {
			p.line("   Base: %s, Size: %d", d.Base, d.Size)
		}
	}
	if i.FirewallBackend != nil {
		p.line(" Firewall Backend: %s", i.FirewallBackend.Driver)
	}
	p.line("")
}
