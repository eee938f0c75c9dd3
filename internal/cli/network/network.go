// Package network has the verbs for networks.
package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/api"
	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/format"
	"github.com/gantry-engine/gantry/internal/cli/opts"
)

// Group is `network` with its verbs.
func Group() *app.Command {
	return &app.Command{Name: "network", Args: "COMMAND", Short: "Manage networks", Group: "management", Sub: func() []*app.Command {
		return []*app.Command{
			{Name: "connect", Args: "[OPTIONS] NETWORK CONTAINER", Short: "Connect a container to a network", Check: app.ExactArgs(2), Build: buildConnect},
			{Name: "create", Args: "[OPTIONS] NETWORK", Short: "Create a network", Check: app.ExactArgs(1), Build: buildCreate},
			{Name: "disconnect", Args: "[OPTIONS] NETWORK CONTAINER", Short: "Disconnect a container from a network", Check: app.ExactArgs(2), Build: buildDisconnect},
			{Name: "inspect", Args: "[OPTIONS] NETWORK [NETWORK...]", Short: "Show everything about one or more networks", Check: app.MinArgs(1), Build: buildInspect},
			{Name: "ls", Aliases: []string{"list"}, Args: "[OPTIONS]", Short: "List networks", AKA: []string{"network ls", "network list"}, Check: app.NoArgs, Build: buildLs},
			{Name: "prune", Args: "[OPTIONS]", Short: "Remove all unused networks", Check: app.NoArgs, Build: buildPrune},
			{Name: "rm", Aliases: []string{"remove"}, Args: "NETWORK [NETWORK...]", Short: "Remove one or more networks", AKA: []string{"network rm", "network remove"}, Check: app.MinArgs(1), Build: buildRm},
		}
	}}
}

func buildInspect(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var tmpl string
	var verbose bool
	f.StringVarP(&tmpl, "format", "f", "", app.InspectFormatHelp)
	f.BoolVarP(&verbose, "verbose", "v", false, "More, for diagnosis")
	return func(ctx context.Context, args []string) error {
		c, err := a.Client()
		if err != nil {
			return err
		}
		return format.Inspect(a.Out, args, tmpl, func(name string) (format.Object, error) { return Get(ctx, c, name, verbose) })
	}
}

// Get inspects one network.
func Get(ctx context.Context, c *api.Client, name string, verbose bool) (format.Object, error) {
	q := url.Values{}
	if verbose {
		q.Set("verbose", "true")
	}
	var raw []byte
	if err := c.Get(ctx, "/networks/"+url.PathEscape(name), q, &raw); err != nil {
		return format.Object{}, err
	}
	var typed network.Inspect
	if err := json.Unmarshal(raw, &typed); err != nil {
		return format.Object{Raw: raw}, nil
	}
	return format.Object{Raw: raw, Typed: typed}, nil
}

func buildConnect(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var ip4, ip6 addr
	var aliases, driverOpts []string
	var links opts.List
	var local addrs
	var priority int
	links.Check = opts.CheckLink
	f.StringSliceVar(&aliases, "alias", nil, "Further names of the container in the network")
	f.StringSliceVar(&driverOpts, "driver-opt", nil, "Options of the network driver")
	f.IntVar(&priority, "gw-priority", 0, "The network with the highest priority gives the default gateway; may be negative")
	f.Var(&ip4, "ip", "IPv4 address (172.30.100.104)")
	f.Var(&ip6, "ip6", "IPv6 address (2001:db8::33)")
	f.Var(&links, "link", "Link to another container")
	f.Var(&local, "link-local-ip", "Link-local address")
	return func(ctx context.Context, args []string) error {
		ep := &network.EndpointSettings{Aliases: aliases, Links: links.Values, GwPriority: priority}
		if ip4.Addr.IsValid() || ip6.Addr.IsValid() || len(local) > 0 {
			ep.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: ip4.Addr, IPv6Address: ip6.Addr, LinkLocalIPs: local}
		}
		if len(driverOpts) > 0 {
			ep.DriverOpts = opts.ToMap(driverOpts)
		}
		c, err := a.Client()
		if err != nil {
			return err
		}
		return c.Post(ctx, "/networks/"+url.PathEscape(args[0])+"/connect", nil, network.ConnectRequest{Container: args[1], EndpointConfig: ep}, nil)
	}
}

func buildDisconnect(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var force bool
	f.BoolVarP(&force, "force", "f", false, "Disconnect whatever the driver says")
	return func(ctx context.Context, args []string) error {
		c, err := a.Client()
		if err != nil {
			return err
		}
		return c.Post(ctx, "/networks/"+url.PathEscape(args[0])+"/disconnect", nil, network.DisconnectRequest{Container: args[1], Force: force}, nil)
	}
}

func buildRm(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var force bool
	f.BoolVarP(&force, "force", "f", false, "Do not complain about networks that are not there")
	return func(ctx context.Context, args []string) error {
		c, err := a.Client()
		if err != nil {
			return err
		}
		failed := false
		for _, n := range args {
			err := c.Delete(ctx, "/networks/"+url.PathEscape(n), nil, nil)
			if err != nil && !(force && api.IsNotFound(err)) {
				fmt.Fprintln(a.Err, err)
				failed = true
				continue
			}
			fmt.Fprintln(a.Out, n)
		}
		if failed {
			return &app.Exit{Code: 1, Err: errors.New("exit status 1")}
		}
		return nil
	}
}

func buildPrune(a *app.App, f *pflag.FlagSet) app.RunFunc {
	var force bool
	var filter opts.Filter
	f.BoolVarP(&force, "force", "f", false, "Do not ask for confirmation")
	f.Var(&filter, "filter", `Only what matches (e.g. "until=<timestamp>")`)
	return func(ctx context.Context, _ []string) error {
		if !force {
			if err := a.Confirm("WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?"); err != nil {
				return err
			}
		}
		out, err := Prune(ctx, a, filter)
		if err == nil && out != "" {
			fmt.Fprintln(a.Out, out)
		}
		return err
	}
}

// Prune removes unused networks, and gives a report.
func Prune(ctx context.Context, a *app.App, filter opts.Filter) (string, error) {
	c, err := a.Client()
	if err != nil {
		return "", err
	}
	var rep network.PruneReport
	if err := c.Post(ctx, "/networks/prune", filter.Query(a.Home.Config().PruneFilters), nil, &rep); err != nil {
		return "", err
	}
	out := ""
	if len(rep.NetworksDeleted) > 0 {
		out = "Deleted Networks:\n"
		for _, n := range rep.NetworksDeleted {
			out += n + "\n"
		}
	}
	return out, nil
}

// addr is an address as a flag.
type addr struct{ netip.Addr }

func (v *addr) Set(s string) (err error) { v.Addr, err = netip.ParseAddr(s); return err }
func (v *addr) Type() string             { return "ip" }
func (v *addr) String() string {
	if !v.Addr.IsValid() {
		return "<nil>"
	}
	return v.Addr.String()
}

// addrs is a list of addresses as a flag.
type addrs []netip.Addr

func (v *addrs) Set(s string) error {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return err
	}
	*v = append(*v, a)
	return nil
}
func (v *addrs) Type() string   { return "ipSlice" }
func (v *addrs) String() string { return "" }
