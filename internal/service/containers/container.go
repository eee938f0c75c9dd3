package containers

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
	ociimage "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/service/containers/mounts"
	"github.com/gantry-engine/gantry/internal/spec"
)

// recordVersion is the version of Container's JSON form. A record of a newer
// version is refused rather than misread.
const recordVersion = 1

// Container is a container's record, as it lies in the store. A *Container that
// was handed out is never changed: every change makes a new one (core.change), so
// list and inspect read without locks. What it points to is shared between versions:
// replace maps, slices and pointers, never write into them.
type Container struct {
	Version int
	ID      string // 64 hex digits
	Name    string // without slash
	Created time.Time

	Path string   // the program
	Args []string // its arguments, without the program

	Config     *container.Config
	HostConfig *container.HostConfig
	// Networks are the endpoint settings asked for, by network name.
	Networks map[string]*network.EndpointSettings

	Image  ImageRef
	Mounts []mounts.Point
	Log    spec.LogConfig

	// Volatile marks an auto-remove container: its record and files lie below the exec root.
	Volatile bool `json:",omitempty"`

	State        State
	RestartCount int

	// Sandbox is the network as attached; its zero value means none.
	Sandbox spec.Sandbox
	Cgroup  spec.Cgroup

	MountLabel, ProcessLabel, AppArmor string `json:",omitempty"`
}

// ImageRef is what a container keeps of its image.
type ImageRef struct {
	ID       string // digest that users see
	Manifest string // digest of the platform's manifest
	// The manifest's media type and size in bytes; records of early versions have neither.
	MediaType string `json:",omitempty"`
	Size      int64  `json:",omitempty"`
	Platform  ociimage.Platform
}

// descriptor points to the manifest that the container was made from, nil if that was not noted.
func (r ImageRef) descriptor() *ociimage.Descriptor {
	if r.MediaType == "" {
		return nil
	}
	return &ociimage.Descriptor{MediaType: r.MediaType, Digest: digest.Digest(r.Manifest), Size: r.Size, Platform: &r.Platform}
}

// State is where a container is in its life, and how its last run went.
type State struct {
	Status    Status
	Pid       int
	Started   time.Time // zero before the first start
	Finished  time.Time
	ExitCode  int
	Error     string `json:",omitempty"`
	OOMKilled bool   `json:",omitempty"`
	StoppedBy Stopper
	BootID    string `json:",omitempty"` // the boot during which it was last started
	// Health as of the last change of its status; a daemon that takes over goes on from it.
	Health *container.Health `json:",omitempty"`
}

// Stopper tells who ended the last run: the restart policy depends on it.
type Stopper uint8

// Who ended a container's last run.
const (
	StoppedBySelf   Stopper = iota
	StoppedByUser           // docker stop or kill: only restart policy "always" starts it again, at the daemon's next start
	StoppedByDaemon         // the daemon's own shutdown: comes back by its policy
)

// Running tells whether Docker calls the container running: that includes paused and restarting.
func (c *Container) Running() bool { return c.State.Status.Running() }

// StopSignal is the signal by which the container wants to be stopped, as text ("SIGTERM", "9").
func (c *Container) StopSignal() string {
	if c.Config.StopSignal != "" {
		return c.Config.StopSignal
	}
	return "SIGTERM"
}

// Key is the container's init process as the keeper knows it.
func (c *Container) Key() spec.ProcessKey { return spec.ProcessKey{Container: c.ID} }

// encode gives the record as stored.
func (c *Container) encode() ([]byte, error) {
	c.Version = recordVersion
	return json.Marshal(c)
}

// decodeContainer reads a stored record.
func decodeContainer(id string, data []byte) (*Container, error) {
	c := new(Container)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("reading the record of container %s: %w: %w", id, err, errdefs.ErrDataLoss)
	}
	switch {
	case c.Version > recordVersion:
		return nil, fmt.Errorf("the record of container %s has version %d, this engine knows %d: use the newer engine that wrote it: %w",
			id, c.Version, recordVersion, errdefs.ErrFailedPrecondition)
	case c.ID != id, c.Config == nil, c.HostConfig == nil:
		return nil, fmt.Errorf("the record of container %s is incomplete: %w", id, errdefs.ErrDataLoss)
	}
	return c, nil
}
