package containers

import (
	"os"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/selinux/go-selinux/label"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/containers/ocispec"
	"github.com/gantry-engine/gantry/internal/service/containers/options"
)

// checkOptions refuses what cannot work and collects warnings. It may correct hc.
func (c *creator) checkOptions(config *container.Config, hc *container.HostConfig) ([]string, error) {
	return options.Checker{
		Runtimes:    slices.Concat([]string{"gantry", "runc", "io.containerd.runc.v2", c.tuning.Load().DefaultRuntime}, c.Config.Runtimes),
		HostGateway: len(c.Config.HostGatewayIPs) > 0,
		Host:        &c.Config.Host,
		Logs:        c.Logs,
	}.Check(config, hc)
}

// checkSpec makes the runtime configuration once, so that what cannot be built
// is an error of create and not of start.
func (c *creator) checkSpec(rec *Container) error {
	s, err := ocispec.Build(c.Config.specInput(rec))
	if err != nil {
		return err
	}
	return ocispec.CheckText(s)
}

// label gives the container its SELinux labels and AppArmor profile.
func (c *creator) label(rec *Container) error {
	sec, err := ocispec.ParseSecurity(rec.HostConfig.SecurityOpt)
	if err != nil {
		return err
	}
	rec.AppArmor = sec.AppArmor
	if !c.Config.Host.SELinux || rec.HostConfig.Privileged && len(sec.Labels) == 0 {
		return nil
	}
	rec.ProcessLabel, rec.MountLabel, err = label.InitLabels(sec.Labels)
	if err != nil {
		return classed.Invalid("invalid --security-opt label: %v", err)
	}
	return nil
}

func hostHostname() string {
	h, err := os.Hostname()
	if err != nil {
		return ""
	}
	return h
}
