// Package create makes containers: the flags that create and run share, the request they become, and the image that is
// pulled for it when it is missing.
package create

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/gantry-engine/gantry/internal/cli/opts"
)

// Flags is what create and run have in common.
type Flags struct {
	f *pflag.FlagSet

	attach, volumes, tmpfs, linkLocal, links, aliases, env, envFile, labels, labelFile, devices, cgroupRules, dns, dnsSearch, dnsOptions, extraHosts,
	volumesFrom, groupAdd, expose, publish, capAdd, capDrop, securityOpts, storage, logOpts opts.List
	weightDevices                    opts.WeightDevices
	readBps, writeBps, readI, writeI opts.ThrottleDevices
	ulimits                          opts.Ulimits
	sysctls, annotations             opts.Map
	mounts                           opts.Mounts
	networks                         opts.Networks
	gpus                             opts.GPUs

	privileged, publishAll, stdin, tty, oomKillDisable, readOnly, noHealth, autoRemove, init, apiSocket, quiet bool

	pid, uts, userns, cgroupns, hostname, domain, name, platform, pull, cidfile, entrypoint, user, workdir, mac, ip4, ip6, stopSignal, isolation, ipc,
	restart, volumeDriver, logDriver, cgroupParent, cpusetCPUs, cpusetMems, runtime, healthCmd string

	memory, reservation, shm, ioBandwidth, kernelMemory opts.Bytes
	memorySwap                                          opts.SwapBytes
	cpus                                                opts.NanoCPUs

	cpuCount, cpuPercent, cpuPeriod, cpuQuota, rtPeriod, rtRuntime, cpuShares, swappiness, pids int64
	ioIOps                                                                                      uint64
	blkioWeight                                                                                 uint16
	stopTimeout, oomScore, healthRetries                                                        int

	healthInterval, healthTimeout, healthStart, healthStartInterval time.Duration
}

// Register adds the flags to a command.
func (c *Flags) Register(f *pflag.FlagSet) {
	c.f = f
	c.general(f)
	c.resources(f)
	c.network(f)
	c.security(f)
	c.health(f)
}

// Attaches says whether --attach was given.
func (c *Flags) Attaches() bool { return len(c.attach.Values) > 0 }

func (c *Flags) list(l *opts.List, check func(string) (string, error), name, short, usage string) {
	l.Check = check
	c.f.VarP(l, name, short, usage)
}

func (c *Flags) general(f *pflag.FlagSet) {
	c.list(&c.attach, opts.CheckAttach, "attach", "a", "Attach to STDIN, STDOUT or STDERR")
	c.list(&c.env, opts.CheckEnv, "env", "e", "Set environment variables")
	c.list(&c.envFile, nil, "env-file", "", "Read environment variables from a file")
	c.list(&c.labels, opts.CheckLabel, "label", "l", "Set labels")
	c.list(&c.labelFile, nil, "label-file", "", "Read labels from a file, one a line")
	f.StringVar(&c.entrypoint, "entrypoint", "", "Replace the image's entrypoint")
	f.StringVarP(&c.hostname, "hostname", "h", "", "Host name of the container")
	f.StringVar(&c.domain, "domainname", "", "NIS domain name of the container")
	f.BoolVarP(&c.stdin, "interactive", "i", false, "Keep STDIN open even if not attached")
	f.BoolVarP(&c.tty, "tty", "t", false, "Give the container a terminal")
	f.StringVarP(&c.user, "user", "u", "", "User and group (<name|uid>[:<group|gid>])")
	f.StringVarP(&c.workdir, "workdir", "w", "", "Working directory inside the container")
	f.BoolVar(&c.autoRemove, "rm", false, "Remove the container, and its anonymous volumes, when it exits")
	f.StringVar(&c.stopSignal, "stop-signal", "", "Signal that asks the container to stop")
	f.IntVar(&c.stopTimeout, "stop-timeout", 0, "Seconds to wait for a stop before killing")
	f.StringVar(&c.name, "name", "", "Name of the container")
	f.StringVar(&c.platform, "platform", "", "Platform of the image, if the engine has several")
	f.StringVar(&c.pull, "pull", "missing", `When to pull the image ("always", "missing", "never")`)
	f.BoolVarP(&c.quiet, "quiet", "q", false, "No progress while pulling")
	f.StringVar(&c.cidfile, "cidfile", "", "Write the container's ID to this file")
	f.StringVar(&c.restart, "restart", "no", "Restart policy to apply when the container exits")
	f.StringVar(&c.logDriver, "log-driver", "", "Log driver of the container")
	c.list(&c.logOpts, nil, "log-opt", "", "Options of the log driver")
	f.StringVar(&c.runtime, "runtime", "", "Runtime for this container")
	f.BoolVar(&c.init, "init", false, "Run a small init in the container that forwards signals and reaps processes")
	f.StringVar(&c.isolation, "isolation", "", "Isolation technology (Windows)")
	f.Var(&c.annotations, "annotation", "Add an annotation, which is passed to the runtime")
	f.BoolVar(&c.apiSocket, "use-api-socket", false, "Give the container the engine's API socket and the registry credentials")
	c.list(&c.volumes, nil, "volume", "v", "Mount a directory or a volume")
	f.Var(&c.mounts, "mount", "Mount a file system, as key=value words")
	c.list(&c.tmpfs, nil, "tmpfs", "", "Mount a tmpfs directory")
	c.list(&c.volumesFrom, nil, "volumes-from", "", "Mount the volumes of other containers")
	f.StringVar(&c.volumeDriver, "volume-driver", "", "Driver for the container's volumes")
	c.list(&c.storage, nil, "storage-opt", "", "Storage driver options")
}

func (c *Flags) resources(f *pflag.FlagSet) {
	f.Uint16Var(&c.blkioWeight, "blkio-weight", 0, "Block IO weight, 10 to 1000, or 0 for none")
	f.Var(&c.weightDevices, "blkio-weight-device", "Block IO weight of one device")
	c.readBps.Bytes, c.writeBps.Bytes = true, true
	f.Var(&c.readBps, "device-read-bps", "Limit bytes read per second from a device")
	f.Var(&c.writeBps, "device-write-bps", "Limit bytes written per second to a device")
	f.Var(&c.readI, "device-read-iops", "Limit reads per second from a device")
	f.Var(&c.writeI, "device-write-iops", "Limit writes per second to a device")
	f.StringVar(&c.cgroupParent, "cgroup-parent", "", "Parent cgroup of the container")
	f.StringVar(&c.cpusetCPUs, "cpuset-cpus", "", "CPUs to run on (0-3, 0,1)")
	f.StringVar(&c.cpusetMems, "cpuset-mems", "", "Memory nodes to use (0-3, 0,1)")
	f.Int64Var(&c.cpuCount, "cpu-count", 0, "Number of CPUs (Windows)")
	f.Int64Var(&c.cpuPercent, "cpu-percent", 0, "Percentage of the CPUs (Windows)")
	f.Int64Var(&c.cpuPeriod, "cpu-period", 0, "Period of the CPU quota in microseconds")
	f.Int64Var(&c.cpuQuota, "cpu-quota", 0, "CPU time within one period in microseconds")
	f.Int64Var(&c.rtPeriod, "cpu-rt-period", 0, "Period of the real-time quota in microseconds")
	f.Int64Var(&c.rtRuntime, "cpu-rt-runtime", 0, "Real-time CPU time within one period in microseconds")
	f.Int64VarP(&c.cpuShares, "cpu-shares", "c", 0, "CPU weight relative to other containers")
	f.Var(&c.cpus, "cpus", "Number of CPUs")
	f.VarP(&c.memory, "memory", "m", "Memory limit")
	f.Var(&c.reservation, "memory-reservation", "Soft memory limit")
	f.Var(&c.memorySwap, "memory-swap", "Limit of memory and swap together, -1 for no limit")
	f.Int64Var(&c.swappiness, "memory-swappiness", -1, "How readily memory is swapped out (0 to 100)")
	f.Var(&c.kernelMemory, "kernel-memory", "Kernel memory limit")
	_ = f.MarkDeprecated("kernel-memory", "and no longer supported by the kernel")
	f.BoolVar(&c.oomKillDisable, "oom-kill-disable", false, "Do not kill processes of the container when memory runs out")
	f.IntVar(&c.oomScore, "oom-score-adj", 0, "Preference of the host when memory runs out (-1000 to 1000)")
	f.Int64Var(&c.pids, "pids-limit", 0, "Limit of processes (-1 for none)")
	f.Var(&c.shm, "shm-size", "Size of /dev/shm")
	f.Var(&c.ulimits, "ulimit", "Ulimit options")
	f.Var(&c.ioBandwidth, "io-maxbandwidth", "IO bandwidth limit of the system drive (Windows)")
	f.Uint64Var(&c.ioIOps, "io-maxiops", 0, "IO operations limit of the system drive (Windows)")
	c.list(&c.devices, nil, "device", "", "Give the container a device of the host")
	c.list(&c.cgroupRules, opts.CheckDeviceCgroupRule, "device-cgroup-rule", "", "Add a rule to the devices the container may use")
	f.Var(&c.gpus, "gpus", "GPUs for the container ('all' for all of them)")
}

func (c *Flags) network(f *pflag.FlagSet) {
	f.Var(&c.networks, "network", "Connect the container to a network")
	f.Var(&c.networks, "net", "Connect the container to a network")
	f.Lookup("net").Hidden = true
	c.list(&c.aliases, nil, "network-alias", "", "Further name of the container in its network")
	c.list(&c.aliases, nil, "net-alias", "", "Further name of the container in its network")
	f.Lookup("net-alias").Hidden = true
	f.Var(ipValue{&c.ip4}, "ip", "IPv4 address (172.30.100.104)")
	f.Var(ipValue{&c.ip6}, "ip6", "IPv6 address (2001:db8::33)")
	f.StringVar(&c.mac, "mac-address", "", "MAC address (92:d0:c6:0a:29:33)")
	c.list(&c.linkLocal, nil, "link-local-ip", "", "Link-local addresses")
	c.list(&c.links, opts.CheckLink, "link", "", "Link to another container")
	c.list(&c.publish, nil, "publish", "p", "Publish ports of the container on the host")
	f.BoolVarP(&c.publishAll, "publish-all", "P", false, "Publish all exposed ports on free ports of the host")
	c.list(&c.expose, nil, "expose", "", "Expose a port or a range of ports")
	c.list(&c.dns, opts.CheckIP, "dns", "", "DNS servers")
	c.list(&c.dnsSearch, opts.CheckDNSSearch, "dns-search", "", "DNS search domains")
	c.list(&c.dnsOptions, nil, "dns-option", "", "DNS options")
	c.list(&c.dnsOptions, nil, "dns-opt", "", "DNS options")
	f.Lookup("dns-opt").Hidden = true
	c.list(&c.extraHosts, opts.CheckExtraHost, "add-host", "", "Add a host name with its address (host:ip)")
}

func (c *Flags) security(f *pflag.FlagSet) {
	f.BoolVar(&c.privileged, "privileged", false, "Give the container all privileges of the host")
	c.list(&c.capAdd, nil, "cap-add", "", "Add Linux capabilities")
	c.list(&c.capDrop, nil, "cap-drop", "", "Drop Linux capabilities")
	c.list(&c.securityOpts, nil, "security-opt", "", "Security options")
	c.list(&c.groupAdd, nil, "group-add", "", "Further groups of the user")
	f.BoolVar(&c.readOnly, "read-only", false, "Mount the container's root file system read-only")
	f.StringVar(&c.pid, "pid", "", "PID namespace to use")
	f.StringVar(&c.uts, "uts", "", "UTS namespace to use")
	f.StringVar(&c.userns, "userns", "", "User namespace to use")
	f.StringVar(&c.cgroupns, "cgroupns", "", "Cgroup namespace to use (host|private); the engine's default when empty")
	f.StringVar(&c.ipc, "ipc", "", "IPC mode to use")
	c.sysctls.Check = opts.CheckSysctl
	f.Var(&c.sysctls, "sysctl", "Kernel settings of the container's namespaces")
	f.Bool("disable-content-trust", true, "Skip image verification")
	f.Lookup("disable-content-trust").Hidden = true
}

func (c *Flags) health(f *pflag.FlagSet) {
	f.StringVar(&c.healthCmd, "health-cmd", "", "Command that checks the container's health")
	f.DurationVar(&c.healthInterval, "health-interval", 0, "Time between two checks (ms|s|m|h)")
	f.IntVar(&c.healthRetries, "health-retries", 0, "Failures in a row that make it unhealthy")
	f.DurationVar(&c.healthTimeout, "health-timeout", 0, "Longest time for one check (ms|s|m|h)")
	f.DurationVar(&c.healthStart, "health-start-period", 0, "Time to start up before failures count (ms|s|m|h)")
	f.DurationVar(&c.healthStartInterval, "health-start-interval", 0, "Time between two checks during start-up (ms|s|m|h)")
	f.BoolVar(&c.noHealth, "no-healthcheck", false, "Switch off the image's health check")
}

// ipValue is a plain text whose type is shown as ip.
type ipValue struct{ s *string }

func (v ipValue) Set(s string) error { *v.s = s; return nil }
func (v ipValue) Type() string       { return "ip" }
func (v ipValue) String() string {
	if v.s == nil || *v.s == "" {
		return "<nil>"
	}
	return *v.s
}
