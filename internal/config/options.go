package config

// Status says what becomes of an option.
type Status string

// The three kinds of options.
const (
	Works   Status = "works"
	Noted   Status = "accepted with a note" // it has no meaning here
	Refused Status = "not yet"              // an error, rather than a daemon that ignores it
)

// Option is one thing that the daemon can be told.
type Option struct {
	Flag, Short string
	Key         string // in daemon.json; "proxies.http-proxy" is nested; empty: flag only
	Type        string // as dockerd's help names it
	Status      Status
	Reload      bool   // SIGHUP rereads it from the file
	Usage       string // help text; for Noted and Refused also the reason
	Own         bool   // dockerd has no such flag
	Hidden      bool

	// field points to where the value goes; nil for what is not used.
	field func(*Config) any
}

const (
	noContainerd = "the engine needs no containerd process"
	noProxy      = "published ports go through the kernel, there is no proxy process"
	laterSwarm   = "services across machines are not there yet"
)

// Options is the table of everything, sorted by flag.
var Options = []Option{
	{Flag: "add-runtime", Key: "", Type: "runtime", Status: Refused, Usage: "Register an additional OCI compatible runtime: other runtimes are not there yet"},
	{Flag: "allow-direct-routing", Key: "allow-direct-routing", Type: "bool", Status: Works, Usage: "Allow remote access to published ports on container IP addresses", field: func(c *Config) any { return &c.AllowDirectRouting }},
	{Flag: "authorization-plugin", Key: "authorization-plugins", Type: "list", Status: Refused, Usage: "Authorization plugins to load: plugins are not there yet"},
	{Flag: "bip", Key: "bip", Type: "string", Status: Works, Usage: "IPv4 address for the default bridge, in CIDR notation", field: func(c *Config) any { return &c.BIP }},
	{Flag: "bip6", Key: "bip6", Type: "string", Status: Works, Usage: "IPv6 address for the default bridge, in CIDR notation", field: func(c *Config) any { return &c.BIP6 }},
	{Flag: "bridge", Short: "b", Key: "bridge", Type: "string", Status: Works, Usage: "Attach containers to a network bridge; \"none\" disables container networking", field: func(c *Config) any { return &c.Bridge }},
	{Flag: "bridge-accept-fwmark", Key: "bridge-accept-fwmark", Type: "string", Status: Works, Usage: "In bridge networks, accept packets with this firewall mark/mask", field: func(c *Config) any { return &c.BridgeAcceptFwmark }},
	{Flag: "bridge-name", Key: "bridge-name", Type: "string", Status: Works, Own: true, Usage: "Name of the default bridge that the engine makes", field: func(c *Config) any { return &c.BridgeName }},
	{Flag: "cdi-spec-dir", Key: "cdi-spec-dirs", Type: "list", Status: Refused, Usage: "CDI specification directories to use: CDI devices are not there yet"},
	{Flag: "cgroup-parent", Key: "cgroup-parent", Type: "string", Status: Works, Usage: "Set parent cgroup for all containers", field: func(c *Config) any { return &c.CgroupParent }},
	{Flag: "config-file", Key: "", Type: "string", Status: Works, Usage: "Daemon configuration file", field: func(c *Config) any { return &c.File }},
	{Flag: "containerd", Key: "containerd", Type: "string", Status: Noted, Usage: "containerd grpc address: " + noContainerd},
	{Flag: "containerd-namespace", Key: "containerd-namespace", Type: "string", Status: Noted, Usage: "containerd namespace to use: " + noContainerd},
	{Flag: "containerd-plugins-namespace", Key: "containerd-plugin-namespace", Type: "string", Status: Noted, Usage: "containerd namespace to use for plugins: " + noContainerd},
	{Flag: "cpu-rt-period", Key: "cpu-rt-period", Type: "int", Status: Refused, Usage: "Limit the CPU real-time period in microseconds for the parent cgroup: not there yet"},
	{Flag: "cpu-rt-runtime", Key: "cpu-rt-runtime", Type: "int", Status: Refused, Usage: "Limit the CPU real-time runtime in microseconds for the parent cgroup: not there yet"},
	{Flag: "cri-containerd", Key: "cri-containerd", Type: "bool", Status: Noted, Usage: "start containerd with CRI: " + noContainerd},
	{Flag: "data-root", Key: "data-root", Type: "string", Status: Works, Usage: "Root directory of persistent state", field: func(c *Config) any { return &c.DataRoot }},
	{Flag: "debug", Short: "D", Key: "debug", Type: "bool", Status: Works, Reload: true, Usage: "Enable debug mode", field: func(c *Config) any { return &c.Debug }},
	{Flag: "default-address-pool", Key: "default-address-pools", Type: "pool-options", Status: Works, Usage: "Default address pools for node specific local networks (base=10.10.0.0/16,size=24)", field: func(c *Config) any { return &c.AddressPools }},
	{Flag: "default-cgroupns-mode", Key: "default-cgroupns-mode", Type: "string", Status: Works, Usage: "Default mode for containers cgroup namespace (\"host\" | \"private\")", field: func(c *Config) any { return &c.DefaultCgroupnsMode }},
	{Flag: "default-gateway", Key: "default-gateway", Type: "ip", Status: Works, Usage: "Default gateway IPv4 address for the default bridge network", field: func(c *Config) any { return &c.DefaultGateway }},
	{Flag: "default-gateway-v6", Key: "default-gateway-v6", Type: "ip", Status: Works, Usage: "Default gateway IPv6 address for the default bridge network", field: func(c *Config) any { return &c.DefaultGateway6 }},
	{Flag: "default-ipc-mode", Key: "default-ipc-mode", Type: "string", Status: Works, Usage: "Default mode for containers ipc (\"shareable\" | \"private\")", field: func(c *Config) any { return &c.DefaultIpcMode }},
	{Flag: "default-network-opt", Key: "default-network-opts", Type: "mapmap", Status: Works, Usage: "Default network options, by driver (bridge=com.docker.network.driver.mtu=1400)", field: func(c *Config) any { return &c.NetworkOpts }},
	{Flag: "default-registry", Key: "default-registry", Type: "string", Status: Works, Reload: true, Own: true, Usage: "Registry that names without a host are of, in the place of Docker Hub: host[:port][/path]", field: func(c *Config) any { return &c.DefaultRegistry }},
	{Flag: "default-runtime", Key: "default-runtime", Type: "string", Status: Works, Reload: true, Usage: "Default OCI runtime for containers (\"gantry\", also called \"runc\")", field: func(c *Config) any { return &c.DefaultRuntime }},
	{Flag: "default-shm-size", Key: "default-shm-size", Type: "bytes", Status: Works, Reload: true, Usage: "Default shm size for containers", field: func(c *Config) any { return bytesField{&c.DefaultShmSize} }},
	{Flag: "default-stop-timeout", Key: "default-stop-timeout", Type: "int", Status: Works, Reload: true, Usage: "Default timeout in seconds to stop a container before killing it (default 10)", field: func(c *Config) any { return &c.DefaultStopTimeout }},
	{Flag: "default-ulimit", Key: "default-ulimits", Type: "ulimit", Status: Works, Usage: "Default ulimits for containers", field: func(c *Config) any { return &c.DefaultUlimits }},
	{Flag: "disk-budget", Key: "disk-budget", Type: "bytes", Status: Works, Reload: true, Own: true, Usage: "Size that the data root should not exceed (such as 40GB): images that nobody uses are removed, least recently used first", field: func(c *Config) any { return bytesField{&c.DiskBudget} }},
	{Flag: "dns", Key: "dns", Type: "list", Status: Works, Usage: "DNS server to use", field: func(c *Config) any { return &c.DNS }},
	{Flag: "dns-opt", Key: "dns-opts", Type: "list", Status: Works, Usage: "DNS options to use", field: func(c *Config) any { return &c.DNSOpts }},
	{Flag: "dns-search", Key: "dns-search", Type: "list", Status: Works, Usage: "DNS search domains to use", field: func(c *Config) any { return &c.DNSSrc }},
	{Flag: "exec-opt", Key: "exec-opts", Type: "list", Status: Works, Usage: "Runtime execution options (native.cgroupdriver)", field: func(c *Config) any { return &c.ExecOpts }},
	{Flag: "exec-root", Key: "exec-root", Type: "string", Status: Works, Usage: "Root directory for execution state files", field: func(c *Config) any { return &c.ExecRoot }},
	{Flag: "experimental", Key: "experimental", Type: "bool", Status: Works, Usage: "Enable experimental features", field: func(c *Config) any { return &c.Experimental }},
	{Flag: "feature", Key: "features", Type: "map", Status: Noted, Reload: true, Usage: "Enable feature in the daemon: the engine has no optional features"},
	{Flag: "firewall-backend", Key: "firewall-backend", Type: "string", Status: Noted, Usage: "Firewall backend to use: the engine always uses nftables"},
	{Flag: "firewall-table", Key: "firewall-table", Type: "string", Status: Works, Own: true, Usage: "Name of the engine's nftables table", field: func(c *Config) any { return &c.FirewallTable }},
	{Flag: "fixed-cidr", Key: "fixed-cidr", Type: "string", Status: Works, Usage: "IPv4 subnet for the default bridge network", field: func(c *Config) any { return &c.FixedCIDR }},
	{Flag: "fixed-cidr-v6", Key: "fixed-cidr-v6", Type: "string", Status: Works, Usage: "IPv6 subnet for fixed IPs", field: func(c *Config) any { return &c.FixedCIDR6 }},
	{Flag: "group", Short: "G", Key: "group", Type: "string", Status: Works, Usage: "Group for the unix socket (default: \"gantry\" or else \"docker\", whichever exists)", field: func(c *Config) any { return &c.Group }},
	{Flag: "help", Key: "", Type: "bool", Status: Works, Usage: "Print usage"},
	{Flag: "host", Short: "H", Key: "hosts", Type: "list", Status: Works, Usage: "Daemon socket(s) to connect to", field: func(c *Config) any { return &c.Hosts }},
	{Flag: "host-gateway-ip", Key: "host-gateway-ips", Type: "list", Status: Works, Usage: "IP addresses that the special 'host-gateway' string in --add-host resolves to", field: func(c *Config) any { return &c.HostGatewayIPs }},
	{Flag: "http-proxy", Key: "proxies.http-proxy", Type: "string", Status: Works, Usage: "HTTP proxy URL to use for outgoing traffic", field: func(c *Config) any { return &c.HTTPProxy }},
	{Flag: "https-proxy", Key: "proxies.https-proxy", Type: "string", Status: Works, Usage: "HTTPS proxy URL to use for outgoing traffic", field: func(c *Config) any { return &c.HTTPSProxy }},
	{Flag: "icc", Key: "icc", Type: "bool", Status: Works, Usage: "Enable inter-container communication for the default bridge network", field: func(c *Config) any { return &c.ICC }},
	{Flag: "image-policy", Key: "image-policy", Type: "string", Status: Works, Reload: true, Own: true, Usage: "File that says which images need whose signature, in the form of containers-policy.json", field: func(c *Config) any { return &c.ImagePolicy }},
	{Flag: "init", Key: "init", Type: "bool", Status: Works, Usage: "Run an init in the container to forward signals and reap processes", field: func(c *Config) any { return &c.Init }},
	{Flag: "init-path", Key: "init-path", Type: "string", Status: Noted, Usage: "Path to the docker-init binary: gantry-init is built in"},
	{Flag: "insecure-registry", Key: "insecure-registries", Type: "list", Status: Works, Reload: true, Usage: "Enable insecure registry communication", field: func(c *Config) any { return &c.InsecureRegistries }},
	{Flag: "ip", Key: "ip", Type: "ip", Status: Works, Usage: "Host IP for port publishing from the default bridge network", field: func(c *Config) any { return &c.IP }},
	{Flag: "ip-forward", Key: "ip-forward", Type: "bool", Status: Works, Usage: "Enable IP forwarding in system configuration", field: func(c *Config) any { return &c.IPForward }},
	{Flag: "ip-forward-no-drop", Key: "ip-forward-no-drop", Type: "bool", Status: Works, Usage: "Let the host pass packets between its interfaces when the daemon enabled IP forwarding", field: func(c *Config) any { return &c.ForwardNoDrop }},
	{Flag: "ip-masq", Key: "ip-masq", Type: "bool", Status: Works, Usage: "Enable IP masquerading for the default bridge network", field: func(c *Config) any { return &c.IPMasq }},
	{Flag: "ip6tables", Key: "ip6tables", Type: "bool", Status: Noted, Usage: "Enable addition of ip6tables rules: --iptables is for both families", field: func(c *Config) any { return &c.IP6Tables }},
	{Flag: "iptables", Key: "iptables", Type: "bool", Status: Works, Usage: "Enable addition of firewall rules (nftables)", field: func(c *Config) any { return &c.IPTables }},
	{Flag: "ipv6", Key: "ipv6", Type: "bool", Status: Works, Usage: "Enable IPv6 networking for the default bridge network", field: func(c *Config) any { return &c.IPv6 }},
	{Flag: "label", Key: "labels", Type: "list", Status: Works, Reload: true, Usage: "Set key=value labels to the daemon", field: func(c *Config) any { return &c.Labels }},
	{Flag: "lazy-pull", Key: "lazy-pull", Type: "bool", Status: Works, Reload: true, Own: true, Usage: "Let images run before they are here, if their layers are eStargz", field: func(c *Config) any { return &c.LazyPull }},
	{Flag: "live-restore", Key: "live-restore", Type: "bool", Status: Works, Reload: true, Usage: "Keep containers when the daemon stops (default here: true)", field: func(c *Config) any { return &c.LiveRestore }},
	{Flag: "log-driver", Key: "log-driver", Type: "string", Status: Works, Usage: "Default driver for container logs", field: func(c *Config) any { return &c.LogDriver }},
	{Flag: "log-format", Key: "log-format", Type: "string", Status: Works, Usage: "Set the logging format (\"text\"|\"json\")", field: func(c *Config) any { return &c.LogFormat }},
	{Flag: "log-level", Short: "l", Key: "log-level", Type: "string", Status: Works, Reload: true, Usage: "Set the logging level (\"debug\"|\"info\"|\"warn\"|\"error\"|\"fatal\")", field: func(c *Config) any { return &c.LogLevel }},
	{Flag: "log-opt", Key: "log-opts", Type: "map", Status: Works, Usage: "Default log driver options for containers", field: func(c *Config) any { return &c.LogOpts }},
	{Flag: "max-concurrent-downloads", Key: "max-concurrent-downloads", Type: "int", Status: Works, Reload: true, Usage: "Set the max concurrent downloads", field: func(c *Config) any { return &c.MaxDownloads }},
	{Flag: "max-concurrent-uploads", Key: "max-concurrent-uploads", Type: "int", Status: Works, Reload: true, Usage: "Set the max concurrent uploads", field: func(c *Config) any { return &c.MaxUploads }},
	{Flag: "max-download-attempts", Key: "max-download-attempts", Type: "int", Status: Works, Reload: true, Usage: "Set the max download attempts for each pull", field: func(c *Config) any { return &c.MaxRetries }},
	{Flag: "metrics-addr", Key: "metrics-addr", Type: "string", Status: Works, Usage: "Set default address and port to serve the metrics api on", field: func(c *Config) any { return &c.MetricsAddr }},
	{Flag: "mtu", Key: "mtu", Type: "int", Status: Works, Usage: "Set the MTU for the default \"bridge\" network", field: func(c *Config) any { return &c.MTU }},
	{Flag: "network-control-plane-mtu", Key: "network-control-plane-mtu", Type: "int", Status: Noted, Usage: "Network Control plane MTU: " + laterSwarm},
	{Flag: "network-diagnostic-port", Key: "network-diagnostic-port", Type: "int", Status: Refused, Hidden: true, Usage: "TCP port number of the network diagnostic server: " + laterSwarm},
	{Flag: "no-new-privileges", Key: "no-new-privileges", Type: "bool", Status: Works, Usage: "Set no-new-privileges by default for new containers", field: func(c *Config) any { return &c.NoNewPrivileges }},
	{Flag: "no-proxy", Key: "proxies.no-proxy", Type: "string", Status: Works, Usage: "Comma-separated list of hosts or IP addresses for which the proxy is skipped", field: func(c *Config) any { return &c.NoProxy }},
	{Flag: "node-generic-resource", Key: "node-generic-resources", Type: "list", Status: Refused, Usage: "Advertise user-defined resource: " + laterSwarm},
	{Flag: "nri-opts", Key: "nri-opts", Type: "value", Status: Refused, Usage: "Node Resource Interface configuration: not there yet"},
	{Flag: "pidfile", Short: "p", Key: "pidfile", Type: "string", Status: Works, Usage: "Path to use for daemon PID file", field: func(c *Config) any { return &c.Pidfile }},
	{Flag: "raw-logs", Key: "raw-logs", Type: "bool", Status: Noted, Usage: "Full timestamps without ANSI coloring: logs are never coloured", field: func(c *Config) any { return &c.RawLogs }},
	{Flag: "registry-mirror", Key: "registry-mirrors", Type: "list", Status: Works, Reload: true, Usage: "Preferred registry mirror (https://host for Docker Hub, registry=https://host for another one)", field: func(c *Config) any { return &c.RegistryMirrors }},
	{Flag: "respect-host-firewall", Key: "respect-host-firewall", Type: "bool", Status: Works, Own: true, Usage: "Let the host's own firewall judge who reaches published ports from outside", field: func(c *Config) any { return &c.RespectHostFirewall }},
	{Flag: "restart", Short: "r", Key: "", Type: "bool", Status: Noted, Hidden: true, Usage: "deprecated: use restart policies of containers"},
	{Flag: "rootless", Key: "rootless", Type: "bool", Status: Refused, Usage: "Enable rootless mode: not there yet"},
	{Flag: "seccomp-profile", Key: "seccomp-profile", Type: "string", Status: Works, Usage: "Path to seccomp profile; \"unconfined\" disables the default profile", field: func(c *Config) any { return &c.SeccompProfile }},
	{Flag: "selinux-enabled", Key: "selinux-enabled", Type: "bool", Status: Refused, Usage: "Enable selinux support: not there yet", field: func(c *Config) any { return &c.SelinuxEnabled }},
	{Flag: "shutdown-timeout", Key: "shutdown-timeout", Type: "int", Status: Works, Reload: true, Usage: "Set the shutdown timeout in seconds", field: func(c *Config) any { return &c.ShutdownTimeout }},
	{Flag: "storage-driver", Short: "s", Key: "storage-driver", Type: "string", Status: Works, Usage: "Storage driver to use: \"overlayfs\" (also called \"overlay2\") or \"copy\" (also called \"vfs\"); without it the first that works", field: func(c *Config) any { return &c.StorageDriver }},
	{Flag: "storage-opt", Key: "storage-opts", Type: "list", Status: Noted, Usage: "Storage driver options: the layer store has none"},
	{Flag: "swarm-default-advertise-addr", Key: "swarm-default-advertise-addr", Type: "string", Status: Noted, Usage: "Set default address or interface for swarm advertised address: " + laterSwarm},
	{Flag: "tls", Key: "tls", Type: "bool", Status: Works, Usage: "Use TLS; implied by --tlsverify", field: func(c *Config) any { return &c.TLS }},
	{Flag: "tlscacert", Key: "tlscacert", Type: "string", Status: Works, Usage: "Trust certs signed only by this CA (default ~/.docker/ca.pem)", field: func(c *Config) any { return &c.TLSCACert }},
	{Flag: "tlscert", Key: "tlscert", Type: "string", Status: Works, Usage: "Path to TLS certificate file (default ~/.docker/cert.pem)", field: func(c *Config) any { return &c.TLSCert }},
	{Flag: "tlskey", Key: "tlskey", Type: "string", Status: Works, Usage: "Path to TLS key file (default ~/.docker/key.pem)", field: func(c *Config) any { return &c.TLSKey }},
	{Flag: "tlsverify", Key: "tlsverify", Type: "bool", Status: Works, Usage: "Use TLS and verify the remote", field: func(c *Config) any { return &c.TLSVerify }},
	{Flag: "userland-proxy", Key: "userland-proxy", Type: "bool", Status: Noted, Usage: "Use userland proxy for loopback traffic: " + noProxy},
	{Flag: "userland-proxy-path", Key: "userland-proxy-path", Type: "string", Status: Noted, Usage: "Path to the userland proxy binary: " + noProxy},
	{Flag: "userns-remap", Key: "userns-remap", Type: "string", Status: Refused, Usage: "User/Group setting for user namespaces: not there yet"},
	{Flag: "validate", Key: "", Type: "bool", Status: Works, Usage: "Validate daemon configuration and exit", field: func(c *Config) any { return &c.Validate }},
	{Flag: "version", Short: "v", Key: "", Type: "bool", Status: Works, Usage: "Print version information and quit"},

	// In the file only.
	{Key: "runtimes", Type: "runtime", Status: Refused, Usage: "Additional OCI compatible runtimes: other runtimes are not there yet"},
	{Key: "builder", Type: "object", Status: Noted, Reload: true, Usage: "Build cache garbage collection and entitlements: builds are not there yet"},
	{Key: "host-gateway-ip", Type: "string", Status: Works, Usage: "Older name of host-gateway-ips", field: func(c *Config) any { return single{&c.HostGatewayIPs} }},
	{Key: "allow-nondistributable-artifacts", Type: "list", Status: Noted, Usage: "Deprecated: such artifacts are always allowed"},
}
