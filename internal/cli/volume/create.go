package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/app"
	"github.com/gantry-engine/gantry/internal/cli/opts"
)

type createOptions struct {
	driver, availability, group, scope, sharing, kind string
	labels, preferred, required                       opts.List
	options, secrets                                  opts.Map
	limit, requiredBytes                              opts.Bytes
}

func buildCreate(a *app.App, f *pflag.FlagSet) app.RunFunc {
	o := &createOptions{}
	o.labels.Check = opts.CheckLabel
	f.StringVar(&o.availability, "availability", "active", `Availability of a cluster volume ("active", "pause", "drain")`)
	f.StringVarP(&o.driver, "driver", "d", "local", "Volume driver")
	f.StringVar(&o.group, "group", "", "Group of a cluster volume")
	f.Var(&o.labels, "label", "Set labels")
	f.Var(&o.limit, "limit-bytes", "Smallest size of a cluster volume in bytes")
	f.VarP(&o.options, "opt", "o", "Options of the driver")
	f.Var(&o.requiredBytes, "required-bytes", "Largest size of a cluster volume in bytes")
	f.StringVar(&o.scope, "scope", "single", `Nodes a cluster volume is used on ("single", "multi")`)
	f.Var(&o.secrets, "secret", "Secrets of a cluster volume")
	f.StringVar(&o.sharing, "sharing", "none", `Who shares a cluster volume ("none", "readonly", "onewriter", "all")`)
	f.Var(&o.preferred, "topology-preferred", "Topology a cluster volume should be in")
	f.Var(&o.required, "topology-required", "Topology a cluster volume must be reachable from")
	f.StringVar(&o.kind, "type", "block", `How a cluster volume is used ("mount", "block")`)
	return func(ctx context.Context, args []string) error {
		for _, n := range []string{"group", "required-bytes", "limit-bytes", "scope", "sharing", "type", "secret", "topology-preferred", "topology-required", "availability"} {
			if f.Changed(n) && o.driver == "local" {
				return fmt.Errorf("--%s belongs to cluster volumes, which need a cluster driver (--driver) and a swarm", n)
			}
		}
		req := volume.CreateRequest{Driver: o.driver, DriverOpts: o.options.Values, Labels: opts.ToMap(o.labels.Values)}
		if req.DriverOpts == nil {
			req.DriverOpts = map[string]string{}
		}
		if len(args) == 1 {
			req.Name = args[0]
		}
		if f.Changed("scope") || f.Changed("group") || f.Changed("type") || f.Changed("sharing") || f.Changed("availability") {
			spec, err := o.cluster()
			if err != nil {
				return err
			}
			req.ClusterVolumeSpec = spec
		}
		c, err := a.Engine.Client()
		if err != nil {
			return err
		}
		var out volume.Volume
		if err := c.Post(ctx, "/volumes/create", nil, req, &out); err != nil {
			return err
		}
		fmt.Fprintln(a.Out, out.Name)
		return nil
	}
}

func (o *createOptions) cluster() (*volume.ClusterVolumeSpec, error) {
	s := &volume.ClusterVolumeSpec{Group: o.group, Availability: volume.Availability(o.availability), AccessMode: &volume.AccessMode{Scope: volume.Scope(o.scope), Sharing: volume.SharingMode(o.sharing)}}
	switch o.kind {
	case "mount":
		s.AccessMode.MountVolume = &volume.TypeMount{}
	case "block":
		s.AccessMode.BlockVolume = &volume.TypeBlock{}
	default:
		return nil, errors.New("the volume type is one of mount and block")
	}
	if o.limit > 0 || o.requiredBytes > 0 {
		s.CapacityRange = &volume.CapacityRange{RequiredBytes: int64(o.requiredBytes), LimitBytes: int64(o.limit)}
	}
	for k, v := range o.secrets.Values {
		s.Secrets = append(s.Secrets, volume.Secret{Key: k, Secret: v})
	}
	slices.SortFunc(s.Secrets, func(x, y volume.Secret) int { return strings.Compare(x.Key, y.Key) })
	topology := func(list []string) (out []volume.Topology) {
		for _, t := range list {
			out = append(out, volume.Topology{Segments: opts.ToMap(strings.Split(t, ","))})
		}
		return out
	}
	if len(o.required.Values)+len(o.preferred.Values) > 0 {
		s.AccessibilityRequirements = &volume.TopologyRequirement{Requisite: topology(o.required.Values), Preferred: topology(o.preferred.Values)}
	}
	return s, nil
}
