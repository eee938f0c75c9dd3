package containers

import (
	"context"
	"net/netip"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/containers/ocispec/facts"
)

// Deps are the ports that the use cases work through, and their settings. Every
// port is needed; a port left nil fails where it is used.
type Deps struct {
	Records   Records
	Images    Images
	Layers    Layers
	Views     Views
	Processes Processes
	Lifetimes Lifetimes
	Outputs   Outputs
	Logs      Logs
	Cgroups   Cgroups
	Meters    Meters
	OOMs      OOMs
	Networks  Networks
	Volumes   Volumes
	Events    Events

	HostMounts HostMounts

	Config Config
}

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

	Platform      ocispec.Platform // of the host
	StorageDriver string           // shown by inspect, "overlayfs"
	Host          facts.Host
}

// Service is the door to all use cases. It holds no state of its own: each
// embedded part is a small group of use cases over one shared core.
type Service struct {
	*core
	*creator
	*starter
	*stopper
	*pauser
	*waiter
	*attacher
	*logReader
	*remover
	*execs
	*recoverer
	*querier
	*copier
	*changer
	*pruner
}

// New makes the service. Recover must be called before it is used.
func New(d Deps) *Service {
	c := newCore(d)
	s := &Service{core: c}
	s.remover = &remover{core: c}
	s.stopper = &stopper{core: c, remove: s.remover}
	s.execs = newExecs(c)
	health := &healthMonitor{core: c, execs: s.execs}
	s.starter = &starter{core: c, remove: s.remover, execs: s.execs, health: health}
	s.stopper.start = s.starter
	s.creator = &creator{core: c}
	s.pauser = &pauser{core: c, health: health}
	s.waiter = &waiter{core: c}
	s.attacher = &attacher{core: c}
	s.logReader = &logReader{core: c}
	s.querier, s.copier, s.changer = &querier{c}, &copier{c}, &changer{c}
	s.pruner = &pruner{core: c, remove: s.remover}
	s.recoverer = &recoverer{core: c, start: s.starter, stop: s.stopper, remove: s.remover, health: health, execs: s.execs}
	return s
}

// Snapshot resolves a name, an ID or a unique ID prefix to the container's
// present record, without waiting for anybody.
func (c *core) Snapshot(_ context.Context, ref string) (*Container, error) {
	e, err := c.reg.get(ref)
	if err != nil {
		return nil, err
	}
	return e.snapshot(), nil
}

// HealthOf is the container's health as inspect shows it, or nil without a health check.
func (c *core) HealthOf(rec *Container) *container.Health {
	e := c.reg.byID(rec.ID)
	if e == nil {
		return nil
	}
	return e.health.Load()
}
