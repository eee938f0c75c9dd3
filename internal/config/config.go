// Package config is what the daemon can be told: its flags and its file daemon.json,
// which are those of dockerd. One table (options.go) says of every option what
// it is called in both places, whether it works here, is accepted with a note, or is
// refused because the engine does not have it yet, and whether SIGHUP rereads it.
// docs/configuration.md is made from the same table.
package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

// Config is the whole configuration, after flags and file were merged.
type Config struct {
	// DockerName is set when the daemon was started under the name "dockerd".
	DockerName bool
	File       string // --config-file
	Validate   bool
	Notes      []string // for the log: options accepted without a meaning here

	// Where things are.
	DataRoot, ExecRoot, Pidfile string
	Hosts                       []string
	Group                       string

	// TLS of TCP listeners. TLSGiven tells an explicit --tls=false from none.
	TLS, TLSVerify, TLSGiven   bool
	TLSCACert, TLSCert, TLSKey string

	// The daemon itself.
	Debug               bool
	LogLevel, LogFormat string
	RawLogs             bool
	MetricsAddr         string
	LiveRestore         bool
	ShutdownTimeout     int // seconds
	Labels              []string
	Experimental        bool
	Features            map[string]string
	Init                bool
	HTTPProxy           string
	HTTPSProxy, NoProxy string

	// Defaults of new containers.
	CgroupParent         string
	DefaultCgroupnsMode  string
	CgroupnsGiven        bool // the mode was asked for: it counts on cgroup v1 too
	DefaultIpcMode       string
	DefaultRuntime       string
	StorageDriver        string // "overlay", "copy", or empty for what works
	DefaultShmSize       int64
	DefaultStopTimeout   int // seconds; -1 means not set: 10
	DefaultUlimits       map[string]Ulimit
	ExecOpts             []string
	LogDriver            string
	LogOpts              map[string]string
	NoNewPrivileges      bool
	Runtimes             map[string]Runtime
	SeccompProfile       string
	SelinuxEnabled       bool
	DNS, DNSOpts, DNSSrc []string
	HostGatewayIPs       []string

	// Registries.
	InsecureRegistries, RegistryMirrors  []string
	ImagePolicy                          string // file that says whose signatures images need; empty for none
	MaxDownloads, MaxUploads, MaxRetries int
	DiskBudget                           int64  // bytes; 0 is none
	DefaultRegistry                      string // an addition: asked in the place of Docker Hub
	LazyPull                             bool   // an addition: pull images lazily that can be

	// Networks.
	Bridge, BridgeName    string
	BIP, FixedCIDR        string
	BIP6, FixedCIDR6      string
	DefaultGateway        netip.Addr
	DefaultGateway6       netip.Addr
	NetworkOpts           map[string]map[string]string // of new networks, by driver
	IP                    netip.Addr
	MTU                   int
	ICC, IPMasq           bool
	IPForward, IPTables   bool
	ForwardNoDrop         bool
	IP6Tables, IPv6       bool
	FirewallTable         string
	AddressPools          []Pool
	AllowDirectRouting    bool
	BridgeAcceptFwmark    string
	RespectHostFirewall   bool // an addition: the host's input chains judge who reaches published ports
	NetworkControlPlane   int
	SwarmAdvertiseAddress string
}

// Ulimit is a default resource limit; -1 means unlimited.
type Ulimit struct {
	Name string `json:"Name"`
	Hard int64  `json:"Hard"`
	Soft int64  `json:"Soft"`
}

// Runtime is a further OCI runtime.
type Runtime struct {
	Path    string         `json:"path,omitempty"`
	Args    []string       `json:"runtimeArgs,omitempty"`
	Type    string         `json:"runtimeType,omitempty"`
	Options map[string]any `json:"options,omitempty"`
}

// Pool is a range of addresses cut into networks of one size.
type Pool struct {
	Base string `json:"base"` // CIDR
	Size int    `json:"size"` // prefix length of each network
}

// Paths that differ between the daemon's two names. The data and exec roots do
// not: /var/lib/docker and /run/docker belong to a Docker that may be installed beside.
const (
	DefaultDataRoot = "/var/lib/gantry"
	DefaultExecRoot = "/run/gantry"

	gantryFile   = "/etc/gantry/daemon.json"
	dockerFile   = "/etc/docker/daemon.json"
	gantryPid    = "/run/gantry.pid"
	dockerPid    = "/var/run/docker.pid"
	gantrySocket = "unix:///run/gantry.sock"
	dockerSocket = "unix:///var/run/docker.sock"
)

// Defaults is the configuration of a daemon that was told nothing. argv0 is the
// name it was started under: "dockerd" brings Docker's socket, file and pidfile.
func Defaults(argv0 string) *Config {
	c := &Config{
		File: gantryFile, Pidfile: gantryPid, DataRoot: DefaultDataRoot, ExecRoot: DefaultExecRoot,
		LogLevel: "info", LogFormat: "text", LiveRestore: true, ShutdownTimeout: 15,
		DefaultCgroupnsMode: "private", DefaultIpcMode: "private", DefaultRuntime: "gantry", DefaultShmSize: 64 << 20, DefaultStopTimeout: -1,
		LogDriver: "json-file", SeccompProfile: "builtin",
		MaxDownloads: 3, MaxUploads: 5, MaxRetries: 5,
		BridgeName: "gantry0", IP: netip.IPv4Unspecified(), MTU: 1500, ICC: true, IPMasq: true, IPForward: true, IPTables: true, IP6Tables: true,
		FirewallTable: "gantry", NetworkControlPlane: 1500,
	}
	if filepath.Base(argv0) == "dockerd" {
		c.DockerName, c.File, c.Pidfile, c.Group = true, dockerFile, dockerPid, "docker"
	}
	return c
}

// DefaultHost is where the daemon listens when it was not told.
func (c *Config) DefaultHost() string {
	if c.DockerName {
		return dockerSocket
	}
	return gantrySocket
}

// Name is what the daemon calls itself in messages.
func (c *Config) Name() string {
	if c.DockerName {
		return "dockerd"
	}
	return "gantryd"
}

// ExecOpt finds a --exec-opt, e.g. native.cgroupdriver.
func (c *Config) ExecOpt(key string) string {
	for _, o := range c.ExecOpts {
		if k, v, ok := cut(o); ok && k == key {
			return v
		}
	}
	return ""
}

func invalid(format string, args ...any) error { return fmt.Errorf(format, args...) }
