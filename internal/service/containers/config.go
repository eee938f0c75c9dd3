package containers

import (
	"net/netip"
	"path/filepath"
	"time"

	"github.com/docker/go-units"
	ociimage "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/containers/ocispec"
	"github.com/gantry-engine/gantry/internal/service/containers/ocispec/facts"
)

// Config is what daemon.json and the host decide for all containers.
type Config struct {
	DataRoot string // absolute; <DataRoot>/containers/<id> holds a container's files
	ExecRoot string // absolute, on tmpfs; holds the files of auto-remove containers
	BootID   string // /proc/sys/kernel/random/boot_id, tells a reboot from a restart

	LiveRestore     bool          // keep containers running when the daemon stops
	ShutdownTimeout time.Duration // bound on stopping all containers; 0 is 15 s

	StopTimeout *int // seconds for containers without a time-out of their own; nil is 10, negative for ever

	Runtimes       []string // names accepted by --runtime besides "gantry", "runc" and "io.containerd.runc.v2"
	DefaultRuntime string   // shown by inspect; empty is "gantry"

	LogDriver      string            // default log driver; empty is "json-file"
	LogOpts        map[string]string // default options of the default log driver
	CgroupParent   string
	ShmSize        int64 // bytes; 0 is 64 MiB
	Ulimits        []*units.Ulimit
	Init           bool // run gantry-init as PID 1 unless a container says otherwise
	NoNewPrivs     bool
	IpcMode        string // "private" (when empty) or "shareable"
	CgroupnsMode   string // "private" or "host"; empty is private on cgroup v2, host on v1
	SeccompProfile string // JSON of the default profile, "unconfined", or empty for the built-in one

	DNS            []netip.Addr
	DNSOptions     []string
	DNSSearch      []string
	HostGatewayIPs []netip.Addr // what "host-gateway" in --add-host means

	AppArmorProfile string // of containers that name none; it is loaded. Empty: none

	Platform      ociimage.Platform // of the host
	StorageDriver string            // shown by inspect, "overlayfs"
	Host          facts.Host
}

func (c Config) withDefaults() Config {
	if c.ShutdownTimeout == 0 {
		c.ShutdownTimeout = 15 * time.Second
	}
	if c.DefaultRuntime == "" {
		c.DefaultRuntime = "gantry"
	}
	if c.LogDriver == "" {
		c.LogDriver = "json-file"
	}
	if c.ShmSize == 0 {
		c.ShmSize = 64 << 20
	}
	if c.IpcMode == "" {
		c.IpcMode = "private"
	}
	if c.CgroupnsMode == "" {
		c.CgroupnsMode = "host"
		if c.Host.CgroupV2 {
			c.CgroupnsMode = "private"
		}
	}
	if c.StorageDriver == "" {
		c.StorageDriver = "overlayfs"
	}
	return c
}

// dir is the folder of a container's own files: hostname, hosts, resolv.conf, logs.
func (c *Config) dir(rec *Container) string {
	if rec.Volatile {
		return filepath.Join(c.ExecRoot, "containers", rec.ID)
	}
	return filepath.Join(c.DataRoot, "containers", rec.ID)
}

// filesDir is where the files that are mounted into the container are made. They
// are made anew at every start, so they lie on tmpfs and cost no sync.
func (c *Config) filesDir(id string) string {
	return filepath.Join(c.ExecRoot, "containers", id)
}

// specInput is what the runtime configuration is made of, as far as the record knows it.
func (c *Config) specInput(rec *Container) ocispec.Input {
	hc := rec.HostConfig
	apparmor := rec.AppArmor
	if apparmor == "unconfined" || !c.Host.AppArmor { // a host without AppArmor cannot confine by it
		apparmor = ""
	}
	return ocispec.Input{
		ID: rec.ID, Path: rec.Path, Args: rec.Args, Config: rec.Config, HostConfig: hc,
		Hostname: rec.Config.Hostname, Domainname: rec.Config.Domainname,
		JoinIPC: hc.IpcMode.IsContainer(), JoinPID: hc.PidMode.IsContainer(),
		NoNetNS: hc.NetworkMode.IsHost(), JoinNet: hc.NetworkMode.IsContainer(),
		SeccompBody: c.SeccompProfile, NoNewPrivs: c.NoNewPrivs,
		AppArmor: apparmor, ProcessLabel: rec.ProcessLabel, MountLabel: rec.MountLabel,
		Ulimits: c.Ulimits, Host: c.Host,
	}
}
