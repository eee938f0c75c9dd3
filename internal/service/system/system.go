package system

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
)

// Facts are what cmd/gantryd knows of the daemon; the reloadable ones may change.
type Facts struct {
	ID                     string // of the engine, kept in the data root
	Version, Commit, Built string
	APIVersion             string
	MinAPIVersion          string
	DataRoot               string
	Debug                  bool
	Experimental           bool
	Labels                 []string
	LiveRestore            bool
	DefaultRuntime         string
	LogDriver              string
	LogDrivers             []string
	CgroupDriver           string // "cgroupfs" or "systemd"
	HTTPProxy              string
	HTTPSProxy             string
	NoProxy                string
	Insecure               []string // registries by name or CIDR
	Mirrors                []string
	StorageDriver          string
	StorageStatus          [][2]string
	SecurityOptions        []string
	NetworkDrivers         []string
	Firewall               string
	Warnings               []string // besides those that the host itself gives reason for
}

// Ports are the other services.
type Ports struct {
	Containers Containers
	Images     Images
	Volumes    Volumes
	Events     Events
	Disk       Disk
	Checks     Checks
	Records    Records
}

// Service answers the system endpoints.
type Service struct {
	facts atomic.Pointer[Facts]
	ports Ports
	host  host
	fsck  fsckLock
}

// New takes the facts and ports. Reading the host is left for the first question.
func New(f Facts, p Ports) *Service {
	s := &Service{ports: p}
	s.facts.Store(&f)
	return s
}

// Reload replaces the facts.
func (s *Service) Reload(change func(*Facts)) {
	f := *s.facts.Load()
	change(&f)
	s.facts.Store(&f)
}

// Facts gives a copy of what the daemon said of itself.
func (s *Service) Facts() Facts { return *s.facts.Load() }

// Info is the answer of GET /info.
func (s *Service) Info(ctx context.Context) system.Info {
	f, h := s.facts.Load(), s.host.read()
	info := system.Info{
		ID: f.ID, Driver: f.StorageDriver, DriverStatus: f.StorageStatus, DockerRootDir: f.DataRoot,
		Plugins:     system.PluginsInfo{Volume: []string{"local"}, Network: f.NetworkDrivers, Authorization: nil, Log: f.LogDrivers},
		MemoryLimit: h.memory, SwapLimit: h.swap, CPUCfsPeriod: h.cfs, CPUCfsQuota: h.cfs, CPUShares: h.shares, CPUSet: h.cpuset, PidsLimit: h.pids,
		OomKillDisable: h.oomKillDisable, IPv4Forwarding: readFile("/proc/sys/net/ipv4/ip_forward") == "1", Debug: f.Debug,
		SystemTime: time.Now().Format(time.RFC3339Nano), LoggingDriver: f.LogDriver, CgroupDriver: f.CgroupDriver, CgroupVersion: h.cgroupVersion,
		KernelVersion: h.kernel, OperatingSystem: h.os, OSVersion: h.osVersion, OSType: "linux", Architecture: h.arch,
		NCPU: runtime.NumCPU(), MemTotal: h.memTotal, IndexServerAddress: "https://index.docker.io/v1/", RegistryConfig: registries(f.Insecure, f.Mirrors),
		HTTPProxy: mask(f.HTTPProxy), HTTPSProxy: mask(f.HTTPSProxy), NoProxy: f.NoProxy, Labels: slices.Clone(f.Labels), ExperimentalBuild: f.Experimental,
		ServerVersion: f.Version, DefaultRuntime: f.DefaultRuntime, LiveRestoreEnabled: f.LiveRestore, InitBinary: "gantry-init",
		Runtimes: map[string]system.RuntimeWithStatus{
			"gantry": {Runtime: system.Runtime{Path: "gantry-keeper"}},
			"runc":   {Runtime: system.Runtime{Path: "gantry-keeper"}}, // the name that clients and files ask for means ours
		},
		Swarm:            swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		ContainerdCommit: system.Commit{ID: f.Commit}, RuncCommit: system.Commit{ID: f.Commit}, InitCommit: system.Commit{ID: f.Commit},
		SecurityOptions: f.SecurityOptions, CDISpecDirs: []string{}, Warnings: append(h.warnings(), f.Warnings...),
	}
	if name, err := os.Hostname(); err == nil {
		info.Name = name
	}
	if f.Firewall != "" {
		info.FirewallBackend = &system.FirewallInfo{Driver: f.Firewall}
	}
	if f.Debug {
		info.NGoroutines = runtime.NumGoroutine()
		if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
			info.NFd = len(fds)
		}
	}
	if s.ports.Containers != nil {
		n := s.ports.Containers.Counts(ctx)
		info.Containers = n.Running + n.Paused + n.Stopped
		info.ContainersRunning, info.ContainersPaused, info.ContainersStopped = n.Running, n.Paused, n.Stopped
	}
	if s.ports.Images != nil {
		info.Images = s.ports.Images.Count(ctx)
	}
	if s.ports.Events != nil {
		info.NEventsListener = s.ports.Events.Listeners()
	}
	if info.Labels == nil {
		info.Labels = []string{}
	}
	return info
}

// Version is the answer of GET /version.
func (s *Service) Version() system.VersionResponse {
	f, h := s.facts.Load(), s.host.read()
	return system.VersionResponse{
		Platform: system.PlatformInfo{Name: "Gantry Engine"},
		Version:  f.Version, APIVersion: f.APIVersion, MinAPIVersion: f.MinAPIVersion, Os: runtime.GOOS, Arch: runtime.GOARCH,
		GitCommit: f.Commit, GoVersion: runtime.Version(), KernelVersion: h.kernel, Experimental: f.Experimental, BuildTime: f.Built,
		Components: []system.ComponentVersion{
			{Name: "Engine", Version: f.Version, Details: map[string]string{
				"ApiVersion": f.APIVersion, "Arch": runtime.GOARCH, "BuildTime": f.Built, "Experimental": fmt.Sprint(f.Experimental),
				"GitCommit": f.Commit, "GoVersion": runtime.Version(), "KernelVersion": h.kernel, "MinAPIVersion": f.MinAPIVersion, "Os": runtime.GOOS,
			}},
			{Name: "gantry-keeper", Version: f.Version, Details: map[string]string{"GitCommit": f.Commit}},
			{Name: "gantry-init", Version: f.Version, Details: map[string]string{"GitCommit": f.Commit}},
		},
	}
}

// registries is the configuration in the form of the API: addresses that are
// ranges, and names with their own flags. Loopback is insecure, as everywhere.
func registries(insecure, mirrors []string) *registry.ServiceConfig {
	hub := &registry.IndexInfo{Name: "docker.io", Mirrors: []string{}, Secure: true, Official: true}
	for _, m := range mirrors {
		hub.Mirrors = append(hub.Mirrors, strings.TrimSuffix(m, "/")+"/")
	}
	c := &registry.ServiceConfig{
		InsecureRegistryCIDRs: []netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("127.0.0.0/8")},
		IndexConfigs:          map[string]*registry.IndexInfo{"docker.io": hub},
		Mirrors:               hub.Mirrors,
	}
	for _, r := range insecure {
		r = strings.TrimPrefix(strings.TrimPrefix(r, "http://"), "https://")
		if p, err := netip.ParsePrefix(r); err == nil {
			if !slices.Contains(c.InsecureRegistryCIDRs, p) {
				c.InsecureRegistryCIDRs = append(c.InsecureRegistryCIDRs, p)
			}
			continue
		}
		c.IndexConfigs[r] = &registry.IndexInfo{Name: r, Mirrors: []string{}}
	}
	return c
}

// mask hides the credentials of a proxy's address.
func mask(proxy string) string {
	u, err := url.Parse(proxy)
	if err != nil || u.User == nil {
		return proxy
	}
	u.User = url.UserPassword("xxxxx", "xxxxx")
	return u.String()
}
