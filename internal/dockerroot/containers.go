package dockerroot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Container is a container's definition. Config and HostConfig are as Docker wrote them: fields that are not known here come along.
type Container struct {
	ID         string
	Name       string // without the slash
	Created    time.Time
	Driver     string
	Image      digest.Digest
	Running    bool
	Managed    bool // by swarm
	Removing   bool
	Config     map[string]json.RawMessage
	HostConfig map[string]json.RawMessage
	Networks   map[string]json.RawMessage // endpoint settings by network name
	Mounts     []Mount                    // volumes and binds, by destination
}

// Mount is what a container has mounted.
type Mount struct {
	Type        string // volume, bind, tmpfs
	Name        string // of a volume
	Source      string // on the host
	Destination string
	RW          bool
	Driver      string
}

// wire is config.v2.json, as far as it matters here.
type wire struct {
	ID, Name, Driver string
	Created          time.Time
	Image            digest.Digest
	Managed          bool
	State            struct {
		Running, Dead, RemovalInProgress bool
	}
	Config          map[string]json.RawMessage
	NetworkSettings struct {
		Networks map[string]json.RawMessage
	}
	MountPoints map[string]Mount
}

// Containers lists the containers, the oldest first.
func (r *Root) Containers() (list []*Container, problems []Problem) {
	at := filepath.Join(r.Path, "containers")
	entries, err := os.ReadDir(at)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, Problem{"container", "(all)", err})
		}
		return nil, problems
	}
	for _, e := range entries {
		if !e.IsDir() || !hexID.MatchString(e.Name()) {
			continue
		}
		c, err := container(filepath.Join(at, e.Name()))
		if err != nil {
			problems = append(problems, Problem{"container", e.Name()[:12], err})
			continue
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *Container) int { return a.Created.Compare(b.Created) })
	return list, problems
}

func container(dir string) (*Container, error) {
	var w wire
	if err := readJSON(filepath.Join(dir, "config.v2.json"), &w); err != nil {
		return nil, fmt.Errorf("its definition: %w", err)
	}
	if w.ID != filepath.Base(dir) || w.Config == nil || w.Name == "" {
		return nil, fmt.Errorf("its definition %s is damaged: it lacks an ID, a name or a configuration", filepath.Join(dir, "config.v2.json"))
	}
	c := &Container{ID: w.ID, Name: strings.TrimPrefix(w.Name, "/"), Created: w.Created, Driver: w.Driver, Image: w.Image, Running: w.State.Running, Managed: w.Managed,
		Removing: w.State.Dead || w.State.RemovalInProgress, Config: w.Config, Networks: w.NetworkSettings.Networks}
	if err := readJSON(filepath.Join(dir, "hostconfig.json"), &c.HostConfig); err != nil {
		return nil, fmt.Errorf("its host configuration: %w", err)
	}
	for _, m := range w.MountPoints {
		c.Mounts = append(c.Mounts, m)
	}
	slices.SortFunc(c.Mounts, func(a, b Mount) int { return strings.Compare(a.Destination, b.Destination) })
	return c, nil
}

// Writable is the folder with what a container wrote, as overlayfs keeps it; only overlay2 and its kin have one.
func (r *Root) Writable(c *Container) (string, error) {
	if !strings.HasSuffix(drivers[r.Driver], "/diff") {
		return "", fmt.Errorf("the storage driver %s does not keep what a container wrote apart: commit it with Docker", r.Driver)
	}
	if r.FirstUID != 0 || r.FirstGID != 0 {
		return "", errors.New("Docker runs it in a user namespace, and what it wrote has other owners: commit it with Docker")
	}
	return r.folder(r.image("layerdb", "mounts", c.ID, "mount-id"))
}
