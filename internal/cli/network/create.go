package network

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/opts"
)

type createOptions struct {
	attachable, configOnly, ingress, internal, ipv4, ipv6 bool
	configFrom, driver, ipamDriver, scope                 string
	aux, ipamOpt, opt                                     opts.Map
	gateways                                              addrs
	ranges                                                prefixes
	subnets                                               []string
	labels                                                opts.List
}

func buildCreate(a *app.App, f *pflag.FlagSet) app.RunFunc {
	o := &createOptions{}
	o.labels.Check = opts.CheckLabel
	f.BoolVar(&o.attachable, "attachable", false, "Containers may connect by hand")
	f.Var(&o.aux, "aux-address", "Further addresses of the driver's that containers must not get")
	f.StringVar(&o.configFrom, "config-from", "", "Network to take the configuration from")
	f.BoolVar(&o.configOnly, "config-only", false, "Make a configuration, no network")
	f.StringVarP(&o.driver, "driver", "d", "bridge", "Network driver")
	f.Var(&o.gateways, "gateway", "Gateway of the subnet")
	f.BoolVar(&o.ingress, "ingress", false, "Make the swarm's routing-mesh network")
	f.BoolVar(&o.internal, "internal", false, "No way to the outside")
	f.Var(&o.ranges, "ip-range", "Part of the subnet that containers get addresses of")
	f.StringVar(&o.ipamDriver, "ipam-driver", "default", "Address management driver")
	f.Var(&o.ipamOpt, "ipam-opt", "Options of the address management driver")
	f.BoolVar(&o.ipv4, "ipv4", true, "Give out IPv4 addresses")
	f.BoolVar(&o.ipv6, "ipv6", false, "Give out IPv6 addresses")
	f.Var(&o.labels, "label", "Set labels")
	f.VarP(&o.opt, "opt", "o", "Options of the driver")
	f.StringVar(&o.scope, "scope", "", "Where the network exists")
	f.StringSliceVar(&o.subnets, "subnet", nil, "Subnet in CIDR form")
	return func(ctx context.Context, args []string) error {
		req, err := o.request(f, args[0])
		if err != nil {
			return err
		}
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		var out network.CreateResponse
		if err := c.Post(ctx, "/networks/create", nil, req, &out); err != nil {
			return err
		}
		if out.Warning != "" {
			fmt.Fprintln(a.Err, "WARNING:", out.Warning)
		}
		fmt.Fprintln(a.Out, out.ID)
		return nil
	}
}

func (o *createOptions) request(f *pflag.FlagSet, name string) (*network.CreateRequest, error) {
	req := &network.CreateRequest{Name: name, Driver: o.driver, Scope: o.scope, Internal: o.internal, Attachable: o.attachable, Ingress: o.ingress, ConfigOnly: o.configOnly,
		Options: o.opt.Values, Labels: opts.ToMap(o.labels.Values)}
	if req.Options == nil {
		req.Options = map[string]string{}
	}
	if f.Changed("ipv4") {
		req.EnableIPv4 = &o.ipv4
	}
	if f.Changed("ipv6") {
		req.EnableIPv6 = &o.ipv6
	}
	if o.configFrom != "" {
		req.ConfigFrom = &network.ConfigReference{Network: o.configFrom}
	}
	cfgs, err := o.subnetConfigs()
	if err != nil {
		return nil, err
	}
	req.IPAM = &network.IPAM{Driver: o.ipamDriver, Options: o.ipamOpt.Values, Config: cfgs}
	if req.IPAM.Options == nil {
		req.IPAM.Options = map[string]string{}
	}
	return req, nil
}

// subnetConfigs gives every subnet the range, gateway and reserved addresses that lie in it.
func (o *createOptions) subnetConfigs() ([]network.IPAMConfig, error) {
	out := []network.IPAMConfig{}
	for _, s := range o.subnets {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("invalid subnet %s: %w", s, err)
		}
		for _, other := range out {
			if other.Subnet.Overlaps(p) {
				return nil, fmt.Errorf("multiple overlapping subnet configuration is not supported")
			}
		}
		out = append(out, network.IPAMConfig{Subnet: p})
	}
	find := func(a netip.Addr) *network.IPAMConfig {
		for i := range out {
			if out[i].Subnet.Contains(a) {
				return &out[i]
			}
		}
		return nil
	}
	for _, r := range o.ranges {
		c := find(r.Addr())
		if c == nil {
			return nil, fmt.Errorf("no matching subnet for range %s", r)
		}
		if c.IPRange.IsValid() {
			return nil, fmt.Errorf("cannot configure multiple ranges (%s, %s) on the same subnet (%s)", r, c.IPRange, c.Subnet)
		}
		c.IPRange = r
	}
	for _, g := range o.gateways {
		c := find(g)
		if c == nil {
			return nil, fmt.Errorf("no matching subnet for gateway %s", g)
		}
		if c.Gateway.IsValid() {
			return nil, fmt.Errorf("cannot configure multiple gateways (%s, %s) for the same subnet (%s)", g, c.Gateway, c.Subnet)
		}
		c.Gateway = g
	}
	for k, v := range o.aux.Values {
		ip, err := netip.ParseAddr(v)
		if err != nil {
			return nil, fmt.Errorf("invalid aux-address %s=%s: %w", k, v, err)
		}
		c := find(ip)
		if c == nil {
			return nil, fmt.Errorf("no matching subnet for aux-address %s", v)
		}
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]netip.Addr{}
		}
		c.AuxAddress[k] = ip
	}
	return out, nil
}

// prefixes is a list of networks as a flag.
type prefixes []netip.Prefix

func (v *prefixes) Set(s string) error {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return err
	}
	*v = append(*v, p)
	return nil
}
func (v *prefixes) Type() string   { return "ipNetSlice" }
func (v *prefixes) String() string { return "" }
