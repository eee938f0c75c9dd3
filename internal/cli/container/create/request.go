package create

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/gantry-engine/gantry/internal/cli/opts"
)

// parse turns flags and arguments into a create request. The engine's operating system decides how device paths are read.
func (c *Flags) parse(args []string, serverOS string) (*container.CreateRequest, error) {
	image, cmd := args[0], args[1:]
	attachStdin, attachStdout, attachStderr := has(c.attach, "stdin"), has(c.attach, "stdout"), has(c.attach, "stderr")
	if c.mac != "" {
		if err := opts.CheckMAC(strings.TrimSpace(c.mac)); err != nil {
			return nil, err
		}
	}
	if c.stdin {
		attachStdin = true
	}
	if len(c.attach.Values) == 0 {
		attachStdout, attachStderr = true, true
	}
	if c.swappiness != -1 && (c.swappiness < 0 || c.swappiness > 100) {
		return nil, fmt.Errorf("invalid value: %d. Valid memory swappiness range is 0-100", c.swappiness)
	}
	cfg := &container.Config{
		Hostname: c.hostname, Domainname: c.domain, User: c.user, Tty: c.tty, OpenStdin: c.stdin, AttachStdin: attachStdin, AttachStdout: attachStdout,
		AttachStderr: attachStderr, Cmd: nilIfEmpty(cmd), Image: image, WorkingDir: c.workdir, StopSignal: c.stopSignal,
	}
	if c.stdin && attachStdin {
		cfg.StdinOnce = true
	}
	if c.f.Changed("entrypoint") {
		cfg.Entrypoint = []string{c.entrypoint}
	}
	if c.f.Changed("stop-timeout") {
		cfg.StopTimeout = &c.stopTimeout
	}
	host, err := c.host(serverOS)
	if err != nil {
		return nil, err
	}
	if err := c.volumesInto(cfg, host); err != nil {
		return nil, err
	}
	if cfg.ExposedPorts, host.PortBindings, err = opts.ParsePorts(c.publish.Values, c.expose.Values); err != nil {
		return nil, err
	}
	if cfg.Env, err = opts.ReadEnv(c.envFile.Values, c.env.Values); err != nil {
		return nil, err
	}
	labels, err := opts.ReadLabels(c.labelFile.Values, c.labels.Values)
	if err != nil {
		return nil, err
	}
	cfg.Labels = opts.ToMap(labels)
	if cfg.Healthcheck, err = c.healthConfig(); err != nil {
		return nil, err
	}
	if c.autoRemove && !host.RestartPolicy.IsNone() {
		return nil, errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	if cfg.AttachStdin && !cfg.OpenStdin {
		cfg.OpenStdin = true
	}
	net, err := c.networking()
	if err != nil {
		return nil, err
	}
	return &container.CreateRequest{Config: cfg, HostConfig: host, NetworkingConfig: net}, nil
}

func has(l opts.List, v string) bool {
	for _, x := range l.Values {
		if x == v {
			return true
		}
	}
	return false
}

func nilIfEmpty(s []string) []string {
	if len(s) == 0 {
		return nil
	}
	return s
}

// volumesInto sorts --volume into binds and anonymous volumes, --tmpfs into paths and options.
func (c *Flags) volumesInto(cfg *container.Config, host *container.HostConfig) error {
	vols := map[string]struct{}{}
	for _, v := range c.volumes.Unique() {
		src, rest, two := strings.Cut(v, ":")
		if !two {
			vols[v] = struct{}{}
			continue
		}
		if len(src) == 1 && strings.HasPrefix(rest, `\`) { // C:\dir
			if strings.Count(rest, ":") == 0 {
				vols[v] = struct{}{}
				continue
			}
		} else if src == "." || strings.HasPrefix(src, "./") || strings.HasPrefix(src, "../") || src == ".." {
			abs, err := filepath.Abs(src)
			if err != nil {
				return err
			}
			v = abs + ":" + rest
		}
		host.Binds = append(host.Binds, v)
	}
	cfg.Volumes = vols
	if len(c.tmpfs.Values) > 0 {
		host.Tmpfs = map[string]string{}
		for _, t := range c.tmpfs.Values {
			path, o, _ := strings.Cut(t, ":")
			host.Tmpfs[path] = o
		}
	}
	host.Mounts = c.mounts.List
	return nil
}

func (c *Flags) host(serverOS string) (*container.HostConfig, error) {
	h := &container.HostConfig{
		ContainerIDFile: c.cidfile, OomScoreAdj: c.oomScore, AutoRemove: c.autoRemove, Privileged: c.privileged, Links: c.links.Values,
		PublishAllPorts: c.publishAll, DNSSearch: orEmpty(c.dnsSearch.Unique()), DNSOptions: orEmpty(c.dnsOptions.Values),
		ExtraHosts: c.extraHosts.Values, VolumesFrom: c.volumesFrom.Values, IpcMode: container.IpcMode(c.ipc), NetworkMode: c.networks.Mode(),
		PidMode: container.PidMode(c.pid), UTSMode: container.UTSMode(c.uts), UsernsMode: container.UsernsMode(c.userns), CgroupnsMode: container.CgroupnsMode(c.cgroupns),
		CapAdd: capabilities(c.capAdd.Values), CapDrop: capabilities(c.capDrop.Values), GroupAdd: c.groupAdd.Values, ReadonlyRootfs: c.readOnly, Sysctls: c.sysctls.Values,
		VolumeDriver: c.volumeDriver, Isolation: container.Isolation(c.isolation), ShmSize: int64(c.shm), Runtime: c.runtime, Annotations: c.annotations.Values,
	}
	for _, ip := range c.dns.Values {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			return nil, err
		}
		h.DNS = append(h.DNS, a)
	}
	switch {
	case !h.PidMode.Valid():
		return nil, errors.New("--pid: invalid PID mode")
	case !h.UTSMode.Valid():
		return nil, errors.New("--uts: invalid UTS mode")
	case !h.UsernsMode.Valid():
		return nil, errors.New("--userns: invalid USER mode")
	case !h.CgroupnsMode.Valid():
		return nil, errors.New("--cgroupns: invalid CGROUP mode")
	}
	if c.f.Changed("init") {
		h.Init = &c.init
	}
	var err error
	if h.RestartPolicy, err = opts.ParseRestart(c.restart); err != nil {
		return nil, err
	}
	if h.LogConfig, err = c.logging(); err != nil {
		return nil, err
	}
	if h.SecurityOpt, h.MaskedPaths, h.ReadonlyPaths, err = securityOptions(c.securityOpts.Values); err != nil {
		return nil, err
	}
	if h.StorageOpt, err = storageOptions(c.storage.Values); err != nil {
		return nil, err
	}
	h.Resources, err = c.limits(serverOS)
	return h, err
}

// capabilities gives their kernel names, sorted, each once: net_admin is CAP_NET_ADMIN; ALL stays.
func capabilities(names []string) []string {
	var list []string
	for _, n := range names {
		if n = strings.ToUpper(n); n != "ALL" && !strings.HasPrefix(n, "CAP_") {
			n = "CAP_" + n
		}
		list = append(list, n)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func (c *Flags) limits(serverOS string) (container.Resources, error) {
	r := container.Resources{
		CgroupParent: c.cgroupParent, Memory: int64(c.memory), MemoryReservation: int64(c.reservation), MemorySwap: int64(c.memorySwap), NanoCPUs: int64(c.cpus),
		MemorySwappiness: &c.swappiness, OomKillDisable: &c.oomKillDisable, CPUCount: c.cpuCount, CPUPercent: c.cpuPercent, CPUShares: c.cpuShares,
		CPUPeriod: c.cpuPeriod, CPUQuota: c.cpuQuota, CPURealtimePeriod: c.rtPeriod, CPURealtimeRuntime: c.rtRuntime, PidsLimit: &c.pids,
		CpusetCpus: c.cpusetCPUs, CpusetMems: c.cpusetMems, BlkioWeight: c.blkioWeight, BlkioWeightDevice: c.weightDevices, BlkioDeviceReadBps: c.readBps.List,
		BlkioDeviceWriteBps: c.writeBps.List, BlkioDeviceReadIOps: c.readI.List, BlkioDeviceWriteIOps: c.writeI.List, IOMaximumIOps: c.ioIOps,
		IOMaximumBandwidth: uint64(c.ioBandwidth), Ulimits: c.ulimits.List(), DeviceCgroupRules: c.cgroupRules.Values, DeviceRequests: c.gpus.List,
	}
	if c.swappiness == -1 {
		r.MemorySwappiness = nil
	}
	if !c.f.Changed("oom-kill-disable") {
		r.OomKillDisable = new(bool)
	}
	var cdi []string
	for _, d := range c.devices.Values {
		if _, err := opts.CheckDevice(d, serverOS); err != nil {
			return r, err
		}
		if opts.CDIDevice(d) {
			cdi = append(cdi, d)
			continue
		}
		m, err := opts.ParseDevice(d, serverOS)
		if err != nil {
			return r, err
		}
		r.Devices = append(r.Devices, m)
	}
	if r.Devices == nil {
		r.Devices = []container.DeviceMapping{}
	}
	if len(cdi) > 0 {
		r.DeviceRequests = append(r.DeviceRequests, container.DeviceRequest{Driver: "cdi", DeviceIDs: cdi})
	}
	return r, nil
}

func (c *Flags) logging() (container.LogConfig, error) {
	m := opts.ToMap(c.logOpts.Values)
	if c.logDriver == "none" && len(m) > 0 {
		return container.LogConfig{}, errors.New("invalid logging opts for driver none")
	}
	return container.LogConfig{Type: c.logDriver, Config: m}, nil
}

// securityOptions reads a seccomp profile from its file, and takes systempaths=unconfined apart.
func securityOptions(list []string) (out, masked, readonly []string, err error) {
	for _, o := range list {
		k, v, ok := strings.Cut(o, "=")
		if !ok && k != "no-new-privileges" {
			if k, v, ok = strings.Cut(o, ":"); !ok {
				return nil, nil, nil, fmt.Errorf("Invalid --security-opt: %q", o) // docker's text
			}
		}
		if k == "systempaths" && v == "unconfined" {
			masked, readonly = []string{}, []string{}
			continue
		}
		if k == "seccomp" && v != "unconfined" && v != "builtin" {
			b, err := os.ReadFile(v)
			if err != nil {
				return nil, nil, nil, fmt.Errorf("opening seccomp profile (%s) failed: %w", v, err)
			}
			var compact bytes.Buffer
			if err := json.Compact(&compact, b); err != nil {
				return nil, nil, nil, fmt.Errorf("compacting json for seccomp profile (%s) failed: %w", v, err)
			}
			o = "seccomp=" + compact.String()
		}
		out = append(out, o)
	}
	return out, masked, readonly, nil
}

func storageOptions(list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m := map[string]string{}
	for _, o := range list {
		k, v, ok := strings.Cut(o, "=")
		if !ok {
			return nil, errors.New("invalid storage option")
		}
		m[k] = v
	}
	return m, nil
}

func (c *Flags) healthConfig() (*container.HealthConfig, error) {
	settings := c.healthCmd != "" || c.healthInterval != 0 || c.healthTimeout != 0 || c.healthStart != 0 || c.healthRetries != 0 || c.healthStartInterval != 0
	if c.noHealth {
		if settings {
			return nil, errors.New("--no-healthcheck conflicts with --health-* options")
		}
		return &container.HealthConfig{Test: []string{"NONE"}}, nil
	}
	if !settings {
		return nil, nil
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"--health-interval", c.healthInterval}, {"--health-timeout", c.healthTimeout}, {"--health-start-period", c.healthStart}, {"--health-start-interval", c.healthStartInterval}} {
		if d.v < 0 {
			return nil, fmt.Errorf("%s cannot be negative", d.name)
		}
	}
	if c.healthRetries < 0 {
		return nil, errors.New("--health-retries cannot be negative")
	}
	h := &container.HealthConfig{Interval: c.healthInterval, Timeout: c.healthTimeout, StartPeriod: c.healthStart, StartInterval: c.healthStartInterval, Retries: c.healthRetries}
	if c.healthCmd != "" {
		h.Test = []string{"CMD-SHELL", c.healthCmd}
	}
	return h, nil
}
