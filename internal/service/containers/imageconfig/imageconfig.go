// Package imageconfig brings together what an image says of its containers and
// what a user says of one.
package imageconfig

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/spec"
)

// Merge completes a container's configuration by the image's, as Docker does.
func Merge(c *container.Config, img *spec.ImageConfig) error {
	if c.User == "" {
		c.User = img.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = img.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = img.StopSignal
	}
	if len(c.Shell) == 0 {
		c.Shell = img.Shell
	}
	if err := mergePorts(c, img); err != nil {
		return err
	}
	env := slices.Clone(c.Env)
	have := map[string]bool{}
	for _, e := range env {
		n, _, _ := strings.Cut(e, "=")
		have[n] = true
	}
	for _, e := range img.Env {
		if n, _, _ := strings.Cut(e, "="); !have[n] {
			env = append(env, e)
		}
	}
	c.Env = env
	labels := maps.Clone(img.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, c.Labels)
	c.Labels = labels
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = img.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = img.Entrypoint
		}
	} else if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil // --entrypoint "" clears the image's
	}
	volumes := maps.Clone(c.Volumes)
	for v := range img.Volumes {
		if volumes == nil {
			volumes = map[string]struct{}{}
		}
		volumes[v] = struct{}{}
	}
	c.Volumes = volumes
	mergeHealth(c, img)
	if len(c.Entrypoint) == 0 && len(c.Cmd) == 0 {
		return classed.Invalid("no command specified")
	}
	if c.WorkingDir != "" {
		if !filepath.IsAbs(c.WorkingDir) {
			return classed.Invalid("the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
		}
		c.WorkingDir = filepath.Clean(c.WorkingDir)
	}
	return nil
}

func mergePorts(c *container.Config, img *spec.ImageConfig) error {
	if len(img.ExposedPorts) == 0 {
		return nil
	}
	ports := maps.Clone(c.ExposedPorts)
	if ports == nil {
		ports = network.PortSet{}
	}
	for p := range img.ExposedPorts {
		port, err := network.ParsePort(p)
		if err != nil {
			return classed.Invalid("the image exposes an invalid port %q: %v", p, err)
		}
		ports[port] = struct{}{}
	}
	c.ExposedPorts = ports
	return nil
}

func mergeHealth(c *container.Config, img *spec.ImageConfig) {
	if img.Healthcheck == nil {
		return
	}
	if c.Healthcheck == nil {
		h := *img.Healthcheck
		c.Healthcheck = &h
		return
	}
	h := *c.Healthcheck
	if len(h.Test) == 0 {
		h.Test = img.Healthcheck.Test
	}
	if h.Interval == 0 {
		h.Interval = img.Healthcheck.Interval
	}
	if h.Timeout == 0 {
		h.Timeout = img.Healthcheck.Timeout
	}
	if h.StartPeriod == 0 {
		h.StartPeriod = img.Healthcheck.StartPeriod
	}
	if h.StartInterval == 0 {
		h.StartInterval = img.Healthcheck.StartInterval
	}
	if h.Retries == 0 {
		h.Retries = img.Healthcheck.Retries
	}
	c.Healthcheck = &h
}
