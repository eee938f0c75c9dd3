package mounts

import (
	"fmt"
	"os"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-engine/gantry/internal/kit/classed"
)

// Point is a mount of a container, as inspect shows it and as start needs it.
type Point struct {
	container.MountPoint
	Anonymous            bool     `json:",omitempty"` // removed with the container by rm -v and --rm
	NoCopy               bool     `json:",omitempty"` // do not populate the volume from the image
	Subpath              string   `json:",omitempty"` // below the volume's root
	TmpfsOptions         []string `json:",omitempty"` // mount options of a tmpfs
	NonRecursive         bool     `json:",omitempty"`
	ReadOnlyNonRecursive bool     `json:",omitempty"`
	ReadOnlyForced       bool     `json:",omitempty"` // recursive read-only or an error
	FromImage            bool     `json:",omitempty"` // an image's VOLUME
	Spec                 bool     `json:",omitempty"` // given by --mount
}

// OCI turns a mount point into a mount of the runtime; canRecursive tells whether the kernel can make
// mounts recursively read-only. A missing source of -v is made, as Docker does.
func (m Point) OCI(canRecursive bool) (specs.Mount, error) {
	sm := specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Source}
	if m.Type == mount.TypeTmpfs {
		sm.Type, sm.Source, sm.Options = "tmpfs", "tmpfs", m.TmpfsOptions
		return sm, nil
	}
	if m.Type == mount.TypeBind {
		if _, err := os.Stat(m.Source); err != nil {
			if !os.IsNotExist(err) {
				return sm, err
			}
			if m.Spec {
				return sm, classed.Invalid("invalid mount config for type %q: bind source path does not exist: %s", m.Type, m.Source)
			}
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return sm, fmt.Errorf("error while creating mount source path '%s': %w", m.Source, err)
			}
		}
	}
	kind := "rbind"
	if m.NonRecursive {
		kind = "bind"
	}
	sm.Options = []string{kind}
	switch {
	case m.RW:
	case m.ReadOnlyForced && !canRecursive:
		return sm, classed.Invalid("mount %s: this kernel cannot make mounts recursively read-only (mount_setattr is needed)", m.Destination)
	case m.ReadOnlyNonRecursive, m.NonRecursive, !canRecursive:
		sm.Options = append(sm.Options, "ro")
	default:
		sm.Options = append(sm.Options, "rro")
	}
	prop := string(m.Propagation)
	if prop == "" {
		prop = "rprivate"
	}
	sm.Options = append(sm.Options, prop)
	return sm, nil
}
