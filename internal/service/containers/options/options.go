// Package options checks what users ask of a container at create: what cannot work
// is refused by its name, with the texts that clients know.
package options

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/service/containers/limits"
	"github.com/gantry-engine/gantry/internal/service/containers/networking"
	"github.com/gantry-engine/gantry/internal/service/containers/ocispec"
	"github.com/gantry-engine/gantry/internal/service/containers/ocispec/facts"
	"github.com/gantry-engine/gantry/internal/service/containers/signals"
)

var (
	hostnameRule   = regexp.MustCompile(`^(?:[[:alnum:]]|(?:[[:alnum:]][[:alnum:]-]*[[:alnum:]]))(?:\.(?:[[:alnum:]]|(?:[[:alnum:]][[:alnum:]-]*[[:alnum:]])))*$`)
	namespacedKern = []string{"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"}
)

// Checker knows what the engine and its host can do.
type Checker struct {
	Runtimes    []string // names that --runtime may have
	HostGateway bool     // whether host-gateway in --add-host means an address
	Host        *facts.Host
	Logs        Logs
}

// Logs checks a log driver's name and options. Implemented by driver/logs.
type Logs interface {
	Validate(driver string, options map[string]string) error
}

// Check refuses what cannot work, by its name, and collects warnings. It
// may correct hc where Docker does (limits that the host cannot set are dropped with a warning).
func (c Checker) Check(config *container.Config, hc *container.HostConfig) (warnings []string, err error) {
	checks := []func(*container.Config, *container.HostConfig) error{
		c.checkUnsupported, checkConfig, checkHealth, checkRestart, checkNamespaces, c.checkHosts, checkSysctls, c.checkSecurity, c.checkLog, checkPorts, checkDevices,
	}
	for _, check := range checks {
		if err := check(config, hc); err != nil {
			return nil, err
		}
	}
	warnings, err = limits.Check(&hc.Resources, c.Host)
	if w := ocispec.Withheld(hc, c.Host.CapBounding); len(w) > 0 {
		warnings = append(warnings, "This host withholds "+strings.Join(w, ", ")+" from the engine. The container gets all other capabilities.")
	}
	return warnings, err
}

// checkUnsupported names every option that this engine does not have yet.
func (c Checker) checkUnsupported(_ *container.Config, hc *container.HostConfig) error {
	for _, o := range []struct {
		given bool
		name  string
	}{
		{len(hc.DeviceRequests) > 0, "--gpus (DeviceRequests)"},
		{hc.VolumeDriver != "" && hc.VolumeDriver != "local", "--volume-driver (VolumeDriver) other than local"},
		{hc.Cgroup != "", "Cgroup"},
		{hc.CPUCount != 0, "--cpu-count (CpuCount)"},
		{hc.CPUPercent != 0, "--cpu-percent (CpuPercent)"},
		{hc.IOMaximumIOps != 0, "--io-maxiops (IOMaximumIOps)"},
		{hc.IOMaximumBandwidth != 0, "--io-maxbandwidth (IOMaximumBandwidth)"},
	} {
		if o.given {
			return classed.Unsupported(o.name)
		}
	}
	for k := range hc.StorageOpt {
		if k != "size" {
			return classed.Unsupported("--storage-opt " + k)
		}
	}
	if !slices.Contains(c.Runtimes, hc.Runtime) {
		return classed.Invalid("unknown or invalid runtime name: %s", hc.Runtime)
	}
	return nil
}

func checkConfig(config *container.Config, hc *container.HostConfig) error {
	if h := config.Hostname; h != "" && (len(h) > 63 || !hostnameRule.MatchString(h)) {
		return classed.Invalid("invalid hostname format: %s", h)
	}
	if config.StopSignal != "" {
		if _, err := signals.Parse(config.StopSignal); err != nil {
			return err
		}
	}
	for _, e := range config.Env {
		if e == "" || strings.HasPrefix(e, "=") {
			return classed.Invalid("invalid environment variable: %s", e)
		}
		if strings.ContainsRune(e, 0) {
			return classed.Invalid("invalid environment variable: a NUL byte in %q", e)
		}
	}
	if hc.OomScoreAdj < -1000 || hc.OomScoreAdj > 1000 {
		return classed.Invalid("Invalid value %d, range for oom score adj is [-1000, 1000]", hc.OomScoreAdj)
	}
	if !hc.Isolation.IsDefault() {
		return classed.Invalid("Invalid isolation: %q - linux only supports 'default'", hc.Isolation)
	}
	if hc.ShmSize < 0 {
		return classed.Invalid("SHM size can not be less than 0")
	}
	if hc.Umask != nil && *hc.Umask > 0o7777 {
		return classed.Invalid("invalid umask %#o: it goes up to 07777", *hc.Umask)
	}
	for k := range hc.Annotations {
		if k == "" {
			return classed.Invalid("invalid Annotations: the empty string is not permitted as an annotation key")
		}
		if strings.HasPrefix(k, "io.gantry.") {
			return classed.Invalid("invalid annotation %q: names that begin with io.gantry. are the engine's own", k)
		}
	}
	return nil
}

func checkHealth(config *container.Config, _ *container.HostConfig) error {
	h := config.Healthcheck
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.v != 0 && d.v < container.MinimumDuration {
			return classed.Invalid("%s in Healthcheck cannot be less than %s", d.name, container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return classed.Invalid("Retries in Healthcheck cannot be negative")
	}
	return nil
}

func checkRestart(_ *container.Config, hc *container.HostConfig) error {
	if err := container.ValidateRestartPolicy(hc.RestartPolicy); err != nil {
		return classed.Invalid("%s", err)
	}
	if hc.AutoRemove && !hc.RestartPolicy.IsNone() {
		return classed.Invalid("can't create 'AutoRemove' container with restart policy")
	}
	return nil
}

func checkNamespaces(config *container.Config, hc *container.HostConfig) error {
	switch {
	case !hc.PidMode.Valid():
		return classed.Invalid("invalid PID mode: %v", hc.PidMode)
	case !hc.IpcMode.Valid():
		return classed.Invalid("invalid IPC mode: %v", hc.IpcMode)
	case !hc.UTSMode.Valid():
		return classed.Invalid("invalid UTS mode: %v", hc.UTSMode)
	case !hc.CgroupnsMode.Valid():
		return classed.Invalid("invalid cgroup namespace mode: %v", hc.CgroupnsMode)
	case !hc.UsernsMode.Valid():
		return classed.Invalid("invalid user namespace mode: %v", hc.UsernsMode)
	case hc.NetworkMode.IsContainer() && hc.NetworkMode.ConnectedContainer() == "":
		return classed.Invalid("invalid container format container:<name|id>")
	case hc.UTSMode.IsHost() && config.Hostname != "":
		return classed.Invalid("conflicting options: hostname and the UTS mode")
	}
	if !hc.NetworkMode.IsContainer() {
		return nil
	}
	for _, o := range []struct {
		given bool
		text  string
	}{
		{config.Hostname != "", "hostname and the network mode"},
		{len(hc.DNS) > 0, "dns and the network mode"},
		{len(hc.ExtraHosts) > 0, "custom host-to-IP mapping and the network mode"},
		{len(hc.PortBindings) > 0 || hc.PublishAllPorts, "port publishing and the container type network mode"},
		{len(config.ExposedPorts) > 0, "port exposing and the container type network mode"},
	} {
		if o.given {
			return classed.Invalid("conflicting options: %s", o.text)
		}
	}
	return nil
}

func (c Checker) checkHosts(_ *container.Config, hc *container.HostConfig) error {
	for _, h := range hc.ExtraHosts {
		name, addr, ok := strings.Cut(h, ":")
		if !ok {
			name, addr, ok = strings.Cut(h, "=")
		}
		if !ok || name == "" {
			return classed.Invalid("bad format for add-host: %q", h)
		}
		if addr == "host-gateway" {
			if !c.HostGateway {
				return classed.Invalid("unable to derive the IP value for host-gateway")
			}
			continue
		}
		if _, err := netip.ParseAddr(strings.Trim(addr, "[]")); err != nil {
			return classed.Invalid("invalid IP address in add-host: %q", addr)
		}
	}
	return nil
}

func checkSysctls(_ *container.Config, hc *container.HostConfig) error {
	for name := range hc.Sysctls {
		if name == "" || strings.Contains(name, "..") || strings.ContainsAny(name, "\x00\n") {
			return classed.Invalid("invalid sysctl name %q", name)
		}
		switch {
		case strings.HasPrefix(name, "net."):
			if hc.NetworkMode.IsHost() {
				return classed.Invalid("sysctl '%s' not allowed in host network namespace", name)
			}
		case slices.Contains(namespacedKern, name), strings.HasPrefix(name, "fs.mqueue."):
			if hc.IpcMode.IsHost() {
				return classed.Invalid("sysctl '%s' not allowed in host ipc namespace", name)
			}
		case name == "kernel.domainname", name == "kernel.hostname":
			if hc.UTSMode.IsHost() {
				return classed.Invalid("sysctl '%s' not allowed in host UTS namespace", name)
			}
		default:
			return classed.Invalid("sysctl '%s' is not whitelisted", name)
		}
	}
	return nil
}

func (c Checker) checkSecurity(_ *container.Config, hc *container.HostConfig) error {
	sec, err := ocispec.ParseSecurity(hc.SecurityOpt)
	if err != nil {
		return err
	}
	switch sec.Seccomp {
	case "", "unconfined", "builtin":
	default:
		if err := ocispec.ValidSeccomp(sec.Seccomp); err != nil {
			return err
		}
	}
	_, err = ocispec.Capabilities(hc, c.Host.CapBounding)
	return err
}

func (c Checker) checkLog(_ *container.Config, hc *container.HostConfig) error {
	return c.Logs.Validate(hc.LogConfig.Type, hc.LogConfig.Config)
}

func checkPorts(config *container.Config, hc *container.HostConfig) error {
	_, err := networking.Ports(config, hc)
	return err
}

func checkDevices(_ *container.Config, hc *container.HostConfig) error {
	for _, r := range hc.DeviceCgroupRules {
		if _, err := ocispec.ParseDeviceRule(r); err != nil {
			return err
		}
	}
	for _, u := range hc.Ulimits {
		if _, err := units.ParseUlimit(u.String()); err != nil {
			return classed.Invalid("invalid ulimit %s: %v", u, err)
		}
	}
	return nil
}

// SizeLimit reads --storage-opt size=…, in bytes; 0 is none.
func SizeLimit(opts map[string]string) (int64, error) {
	s, ok := opts["size"]
	if !ok {
		return 0, nil
	}
	n, err := units.RAMInBytes(s)
	if err != nil || n <= 0 {
		return 0, classed.Invalid("invalid --storage-opt size=%s: a number of bytes with an optional unit is needed", s)
	}
	return n, nil
}
